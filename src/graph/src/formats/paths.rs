//! Patterns of Neuron2Graph in JSON: the paths of its trie, and the trajectories of its notebooks.
//!
//! A path is `[{"token":" c","importance":0.9,"activation":0.8},…,{"token":"**END**","importance":0.0,"activation":0.8}]`
//! with the activator first and the activation of its end as the prediction; `**IGNORE**` is any one token. A
//! trajectory is `{"trajectory":[{"token","important","normalised_activation","importance"},…],"is_augmented":false}`
//! and has neither: tokens that are not important are any, and the activator's activation is the prediction.

use serde::{Deserialize, Serialize};

use super::{malformed, unbound};
use crate::{Builder, Element, Error, Graph, Pattern, Policy, Result, Symbol};

const FORMAT: &str = "Neuron2Graph paths";
const ANY: &str = "**IGNORE**";
const END: &str = "**END**";

#[derive(Serialize, Deserialize)]
struct PathStep {
    token: String,
    importance: f32,
    #[serde(alias = "normalised_activation")]
    activation: f32,
    #[serde(default, skip_serializing)]
    important: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StoredPath {
    Path(Vec<PathStep>),
    Trajectory { trajectory: Vec<PathStep> },
}

/// Parses the graph of an array of paths or trajectories. Where they disagree, the first one counts.
///
/// # Errors
/// [`Error::Malformed`], also for paths without an end, and those of [`Graph::new`].
pub fn parse(text: &str) -> Result<Graph> {
    let written: Vec<StoredPath> = serde_json::from_str(text).map_err(|error| malformed(FORMAT, error))?;
    let mut builder = Builder::new(Policy::FirstWins);
    for (number, written) in written.into_iter().enumerate() {
        let pattern = match written {
            StoredPath::Path(steps) => path(steps),
            StoredPath::Trajectory { trajectory } => self::trajectory(&trajectory),
        };
        let pattern = pattern.ok_or_else(|| malformed(FORMAT, format!("path {number} does not end in {END}")))?;
        builder.insert(&pattern)?;
    }
    builder.build()
}

fn path(mut steps: Vec<PathStep>) -> Option<Pattern> {
    let end = steps.pop().filter(|end| end.token == END)?;
    Some(Pattern { elements: steps.iter().map(|step| step.element(true)).collect(), ends: end.activation })
}

fn trajectory(steps: &[PathStep]) -> Option<Pattern> {
    let is_important = |step: &PathStep| step.important.unwrap_or(true);
    let length = steps.iter().rposition(is_important).unwrap_or(0) + 1;
    let elements = steps.iter().take(length).enumerate().map(|(i, step)| step.element(i == 0 || is_important(step)));
    Some(Pattern { elements: elements.collect(), ends: steps.first()?.activation })
}

impl PathStep {
    fn element(&self, is_token: bool) -> Element {
        let symbol = if is_token && self.token != ANY { unbound(&self.token) } else { Symbol::Any };
        Element { symbol, importance: self.importance, activation: self.activation }
    }
}

/// Writes the paths of a graph.
///
/// # Errors
/// [`Error::Inexpressible`] if it has gaps or the start of a text.
pub fn print(graph: &Graph) -> Result<String> {
    let graph = graph.expanded();
    let paths = graph.to_patterns().map(|pattern| {
        let steps = pattern.elements.into_iter().map(|element| {
            let token = match element.symbol {
                Symbol::Token(token) => token.text.to_string(),
                Symbol::Any => ANY.to_owned(),
                Symbol::Gap(_) => return Err(Error::Inexpressible { format: FORMAT, what: "gaps" }),
                Symbol::Start => return Err(Error::Inexpressible { format: FORMAT, what: "start of the text" }),
            };
            Ok(PathStep { token, importance: element.importance, activation: element.activation, important: None })
        });
        let end = PathStep { token: END.to_owned(), importance: 0.0, activation: pattern.ends, important: None };
        steps.chain([Ok(end)]).collect::<Result<Vec<_>>>()
    });
    serde_json::to_string(&paths.collect::<Result<Vec<_>>>()?).map_err(|error| malformed(FORMAT, error))
}
