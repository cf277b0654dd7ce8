//! The parser of pages.

use serde::Deserialize;

use crate::files::Parsed;
use crate::json;
use crate::source::parse_index;
use crate::{Example, Extremes, MOST_LAYERS, MOST_NEURONS, Place, Row};

/// Token that a text begins with.
const BOS: &str = "<|endoftext|>";

/// Text before a list of tokens.
const LIST: &str = "ColoredTokens,";

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<String>,
    #[serde(deserialize_with = "json::numbers")]
    values: Vec<f32>,
}

/// A part of a page: what is between two lines.
#[derive(Default)]
struct Part<'a> {
    /// Its text without lists of tokens.
    text: String,
    /// Its full lists of tokens, in JSON.
    lists: Vec<&'a str>,
}

/// Reads the texts of a page, strongest first.
pub(super) fn examples(place: Place, bytes: &[u8]) -> Parsed {
    let page = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let parts = parts(page);
    let [heading, _, texts @ ..] = parts.as_slice() else { return Err("it has no texts".into()) };
    let found = of_heading(&heading.text).ok_or("it has no heading \"Neuron … in Layer …\"")?;
    if found != place {
        return Err(format!("it is the page of layer {}, neuron {}", found.layer, found.neuron));
    }
    let example = |(i, part): (usize, &Part)| {
        let rank = i as u32 + 1;
        example(place, rank, part).map(Row::Example).map_err(|reason| format!("text {rank}: {reason}"))
    };
    let texts = texts.iter().filter(|part| !part.lists.is_empty() || !part.text.trim().is_empty());
    Ok(texts.enumerate().map(example).collect())
}

/// Divides a page at its lines. Tokens that look like lines are none; a list that does not end is the end of the page.
fn parts(page: &str) -> Vec<Part<'_>> {
    const LINE: &str = "<hr>";
    let mut parts = vec![Part::default()];
    let mut rest = page;
    loop {
        // There always is a last part.
        let last = parts.len() - 1;
        let line = rest.find(LINE);
        match rest.find(LIST).filter(|list| line.is_none_or(|line| *list < line)) {
            Some(list) => {
                parts[last].text += &rest[..list];
                rest = rest[list + LIST.len()..].trim_start();
                let Some(length) = object_length(rest) else { return parts };
                let (list, after) = rest.split_at(length);
                if is_full(after) {
                    parts[last].lists.push(list);
                }
                rest = after;
            }
            None => {
                parts[last].text += &rest[..line.unwrap_or(rest.len())];
                let Some(line) = line else { return parts };
                parts.push(Part::default());
                rest = &rest[line + LINE.len()..];
            }
        }
    }
}

/// Length of the JSON object that a text begins with.
fn object_length(text: &str) -> Option<usize> {
    if !text.starts_with('{') {
        return None;
    }
    let (mut is_text, mut is_escaped, mut depth) = (false, false, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' if !is_text => depth += 1,
            b'}' if !is_text => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns true if what comes after a list says that it has all tokens of its text: `) </script> </details>`.
fn is_full(after: &str) -> bool {
    let after = after.trim_start().strip_prefix(')').map(str::trim_start);
    let after = after.map(|after| after.strip_prefix(';').unwrap_or(after).trim_start());
    let after = after.and_then(|after| after.strip_prefix("</script>")).map(str::trim_start);
    after.is_some_and(|after| after.starts_with("</details>"))
}

fn of_heading(heading: &str) -> Option<Place> {
    let (_, neuron) = heading.split_once("<h2>Neuron ")?;
    let (neuron, layer) = neuron.split_once(" in Layer ")?;
    let (layer, _) = layer.split_once("</h2>")?;
    Some(Place { layer: parse_index(layer.trim(), MOST_LAYERS)?, neuron: parse_index(neuron.trim(), MOST_NEURONS)? })
}

fn example(place: Place, rank: u32, part: &Part) -> Result<Example, String> {
    let [list] = part.lists.as_slice() else {
        return Err(format!("it has {} full lists of tokens, and should have one", part.lists.len()));
    };
    let Tokens { tokens, values: activations } = json::parse(list.as_bytes())?;
    if tokens.len() != activations.len() {
        return Err(format!("it has {} tokens and {} values", tokens.len(), activations.len()));
    }
    let float = |label| field(&part.text, label).and_then(float);
    let extremes = Extremes {
        max_range: float("Max Range:")?,
        min_range: float("Min Range:")?,
        max_activation: float("Max Act:")?,
        min_activation: float("Min Act:")?,
    };
    let integer = |label| {
        let digits = field(&part.text, label)?;
        digits.parse::<u64>().map_err(|_| format!("its {label} \"{}\" is not a number", digits.escape_debug()))
    };
    let document = Some(integer("Data Index:")?);
    let position = integer("Max Activating Token Index:")?;
    let activation = usize::try_from(position).ok().and_then(|position| activations.get(position)).copied();
    let activation =
        activation.ok_or_else(|| format!("its greatest activation is at token {position} of {}", tokens.len()))?;
    Ok(Example {
        place,
        source: super::SOURCE,
        rank: Some(rank),
        quantile: None,
        document,
        position: position as u32,
        activation,
        has_bos: tokens.first().is_some_and(|token| token == BOS),
        tokens,
        activations,
        extremes: Some(extremes),
    })
}

/// The value in bold after a label, of which there must be one.
fn field<'a>(text: &'a str, label: &str) -> Result<&'a str, String> {
    let mut found = text.match_indices(label).map(|(at, _)| text[at + label.len()..].trim_start());
    let (first, second) = (found.next(), found.next());
    match (first, second) {
        (Some(value), None) => {
            let value = value.strip_prefix("<b>").and_then(|value| value.split_once("</b>"));
            value.map(|(value, _)| value.trim()).ok_or_else(|| format!("there is no value after \"{label}\""))
        }
        (None, _) => Err(format!("\"{label}\" is missing")),
        (Some(_), Some(_)) => Err(format!("\"{label}\" is there more than once")),
    }
}

fn float(text: &str) -> Result<f32, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|number: &f32| is_number && number.is_finite());
    number.ok_or_else(|| format!("\"{}\" is not a number", text.escape_debug()))
}
