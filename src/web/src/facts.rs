//! Facts about models and published data before any of their neurons is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use crate::error::Fault;
use crate::query::{Answer, Asker};
use crate::sql_text::{literal, name};

/// A model, or data that somebody has published about one: a schema with the tables of a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Name of the schema.
    pub name: String,
    /// Names of its tables.
    pub tables: BTreeSet<String>,
    /// True if its network is here and can be run.
    pub is_network: bool,
    pub architecture: Option<String>,
    pub layers: i64,
    pub neurons_per_layer: i64,
    pub d_model: Option<i64>,
    pub activation_function: Option<String>,
    pub site: Option<String>,
    pub parameters: Option<i64>,
    pub vocabulary: Option<i64>,
    pub dtype: Option<String>,
    pub device: Option<String>,
    pub sha256: Option<String>,
    /// Dataset that its published activations are of.
    published_dataset: Option<String>,
    /// Datasets that it was analysed over, the last analysed first.
    pub datasets: Vec<String>,
    /// Source of the published examples that were given to a network which was not analysed.
    pub examples_by: Option<String>,
}

const TABLES: &str = "SELECT table_schema, table_name FROM information_schema.tables \
WHERE table_schema NOT IN ('public', 'information_schema', 'pg_catalog')";

/// Tables of every model whose network is here.
const NETWORK_TABLES: [&str; 9] = [
    "activations",
    "attention",
    "examples",
    "explanations",
    "graph_nodes",
    "graphs",
    "neurons",
    "vocabulary",
    "weights",
];

/// Statement that lists the models.
pub(crate) const MODELS: &str = "SELECT * FROM models ORDER BY model";

impl Facts {
    pub fn has(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    /// Returns a table's name as it is written in SQL.
    pub fn table(&self, table: &str) -> String {
        format!("{}.{table}", name(&self.name))
    }

    /// Returns a condition on `dataset` for tables that have rows of several; the last analysed one is chosen.
    pub fn of_dataset(&self, column: &str) -> Result<String, Fault> {
        match self.datasets.first() {
            Some(dataset) if self.datasets.len() > 1 => Ok(format!(" AND {column} = {}", literal(dataset)?)),
            _ => Ok(String::new()),
        }
    }

    /// The dataset that statistics are of.
    pub fn dataset(&self) -> Option<&str> {
        self.datasets.first().or(self.published_dataset.as_ref()).map(String::as_str)
    }

    fn read(&mut self, answer: &Answer, row: usize) {
        let text = |column| answer.text(row, column).map(str::to_owned);
        self.architecture = text("architecture");
        self.layers = answer.integer(row, "layers").unwrap_or_default();
        self.neurons_per_layer = answer.integer(row, "neurons_per_layer").unwrap_or_default();
        self.d_model = answer.integer(row, "d_model");
        self.activation_function = text("activation_function");
        self.site = text("site");
        self.parameters = answer.integer(row, "parameters");
        self.vocabulary = answer.integer(row, "vocabulary");
        self.dtype = text("dtype");
        self.device = text("device");
        self.sha256 = text("sha256");
        self.published_dataset = text("dataset");
    }
}

/// Reads all models and published data, by name.
///
/// # Errors
/// Those of the statements.
pub(crate) async fn all(asker: &mut Asker) -> Result<Vec<Facts>, Fault> {
    some(asker, None).await
}

/// Reads the model of a name, if its network is here.
async fn network(asker: &mut Asker, model: &str) -> Result<Option<Facts>, Fault> {
    let models = asker.ask(format!("SELECT * FROM models WHERE model = {}", literal(model)?)).await?;
    if models.len() == 0 {
        return Ok(None);
    }
    let tables = NETWORK_TABLES.map(str::to_owned).into();
    let mut facts = Facts { name: model.to_owned(), tables, is_network: true, ..Facts::default() };
    facts.read(&models, 0);
    Ok(Some(facts))
}

/// Reads all of them, or those of one name.
async fn some(asker: &mut Asker, only: Option<&str>) -> Result<Vec<Facts>, Fault> {
    let mut schemas: BTreeMap<String, Facts> = BTreeMap::new();
    let named = only.map(literal).transpose()?;
    let tables = match &named {
        Some(model) => asker.ask(format!("{TABLES} AND table_schema = {model}")).await?,
        None => asker.ask(TABLES).await?,
    };
    for row in tables.rows() {
        if let (Some(schema), Some(table)) = (tables.text(row, "table_schema"), tables.text(row, "table_name")) {
            let facts = schemas.entry(schema.to_owned()).or_default();
            facts.name = schema.to_owned();
            facts.tables.insert(table.to_owned());
        }
    }
    let models = match &named {
        Some(model) => asker.ask(format!("SELECT * FROM models WHERE model = {model}")).await?,
        None => asker.ask(MODELS).await?,
    };
    for row in models.rows() {
        if let Some(facts) = models.text(row, "model").and_then(|model| schemas.get_mut(model)) {
            facts.read(&models, row);
            facts.is_network = true;
        }
    }
    let mut found = Vec::new();
    for mut facts in schemas.into_values() {
        if !facts.is_network {
            if !(facts.has("rejects") && facts.has("models")) {
                continue;
            }
            let published = asker.ask(format!("SELECT * FROM {}", facts.table("models"))).await?;
            facts.read(&published, 0);
        }
        found.push(facts);
    }
    Ok(found)
}

/// Reads one model, or published data of this name.
///
/// # Errors
/// 404 if there is none.
pub(crate) async fn of(asker: &mut Asker, model: &str) -> Result<Facts, Fault> {
    let found = match network(asker, model).await? {
        Some(network) => Some(network),
        None => some(asker, Some(model)).await?.into_iter().find(|facts| facts.name == model),
    };
    let Some(mut facts) = found else {
        return Err(Fault::not_found(format!("there is no model \"{model}\" here")));
    };
    if facts.is_network && facts.has("neurons") {
        let sql = format!(
            "SELECT DISTINCT dataset FROM {} WHERE layer = 0 AND neuron = 0 AND dataset IS NOT NULL ORDER BY 1",
            facts.table("neurons")
        );
        let datasets = asker.ask_prepared(&sql, &[], sql.clone()).await?;
        facts.datasets = datasets.rows().filter_map(|row| datasets.text(row, "dataset").map(str::to_owned)).collect();
        if facts.datasets.is_empty() && facts.has("examples") {
            let sql = format!("SELECT source FROM {} WHERE source IS NOT NULL LIMIT 1", facts.table("examples"));
            facts.examples_by = asker.ask(sql).await?.text(0, "source").map(str::to_owned);
        }
    }
    Ok(facts)
}

/// A neuron of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub layer: i64,
    pub neuron: i64,
}

/// The condition by which a statement finds the rows of a neuron.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OfNeuron {
    /// With its numbers, for people.
    Numbers(Place),
    /// With parameters, for a plan that is kept.
    Parameters,
}

impl From<Place> for OfNeuron {
    fn from(place: Place) -> Self {
        Self::Numbers(place)
    }
}

impl Display for OfNeuron {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers(Place { layer, neuron }) => write!(f, "layer = {layer} AND neuron = {neuron}"),
            Self::Parameters => f.write_str("layer = $1 AND neuron = $2"),
        }
    }
}

impl Place {
    /// Asks a statement about the neuron, whose plan is kept for other neurons.
    ///
    /// # Errors
    /// Those of the statement.
    pub async fn ask(
        self,
        asker: &mut Asker,
        statement: impl Fn(OfNeuron) -> Result<String, Fault>,
    ) -> Result<Answer, Fault> {
        let sql = statement(OfNeuron::Parameters)?;
        asker.ask_prepared(&sql, &[self.layer, self.neuron], statement(self.into())?).await
    }
}

impl Facts {
    /// Reads the number of a layer.
    ///
    /// # Errors
    /// 404 if the model has no such layer.
    pub fn layer(&self, text: &str) -> Result<i64, Fault> {
        self.index(text, self.layers, "layer", "layers")
    }

    /// Reads the numbers of a layer and a neuron.
    ///
    /// # Errors
    /// 404 if the model has no such neuron.
    pub fn place(&self, layer: &str, neuron: &str) -> Result<Place, Fault> {
        let layer = self.layer(layer)?;
        let neuron = self.index(neuron, self.neurons_per_layer, "neuron", "neurons in a layer")?;
        Ok(Place { layer, neuron })
    }

    fn index(&self, text: &str, count: i64, one: &str, many: &str) -> Result<i64, Fault> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|number| is_number && *number < count);
        number.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Fault::not_found(format!("{} has no {one} \"{shown}\": it has {count} {many}, counted from 0", self.name))
        })
    }
}
