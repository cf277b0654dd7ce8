//! `neuroql graph`.

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use crate::analyze::text;
use crate::arguments::Graph;
use crate::console::{self, Failure};
use crate::serve::start_engine;

pub(crate) async fn run(options: Graph) -> Result<(), Failure> {
    let Graph { model, layer, neuron, .. } = &options;
    let title = format!("{} || method", text(&format!("{model}, layer {layer}, neuron {neuron}, ")));
    let form = match () {
        () if options.svg.is_some() => format!("graph_svg(graph, {title})"),
        () if options.dot => format!("graph_dot(graph, {title})"),
        () if options.mermaid => format!("graph_mermaid(graph, {title})"),
        () if options.json => "graph_json(graph)".into(),
        () => "graph_text(graph)".into(),
    };
    let method = options.method.as_ref().map_or_else(String::new, |method| format!("AND method = {}", text(method)));
    // Without a method the one that `neurons` shows.
    let sql = format!(
        "SELECT {form}, reason FROM \"{}\".graphs WHERE layer = {layer} AND neuron = {neuron} {method} \
         ORDER BY method = 'neuroql' DESC, built_at DESC LIMIT 1",
        model.replace('"', "\"\"")
    );
    let engine = start_engine(&options.engine).await?;
    engine.registry().get(model).map_err(|error| Failure {
        message: error.to_string(),
        hint: Some("--model NAME=LOCATION registers one; a --store remembers those registered in a server".into()),
    })?;
    let rows = engine.session().sql(&sql).await?.collect().await?;
    let Some(row) = rows.iter().find(|batch| batch.num_rows() > 0) else {
        return Err(Failure {
            message: format!("no graph is known of layer {layer}, neuron {neuron} of {model}"),
            hint: Some("graphs are built by build_graphs(model => …) and kept by INSERT INTO … in a --store".into()),
        });
    };
    let column =
        |index: usize| cast(row.column(index), &DataType::Utf8).map_err(datafusion::error::DataFusionError::from);
    let (drawing, reason) = (column(0)?, column(1)?);
    if drawing.is_null(0) {
        let reason = reason.as_string::<i32>().iter().next().flatten().unwrap_or("the store does not say why");
        return Err(Failure { message: format!("the neuron has no graph: {reason}"), hint: None });
    }
    let drawing = drawing.as_string::<i32>().value(0);
    match options.svg.filter(|file| file.as_os_str() != "-") {
        Some(file) => std::fs::write(&file, drawing)
            .map_err(|error| Failure { message: format!("cannot write {}: {error}", file.display()), hint: None })?,
        None => console::print(&format!("{}\n", drawing.trim_end_matches('\n')))?,
    }
    Ok(())
}
