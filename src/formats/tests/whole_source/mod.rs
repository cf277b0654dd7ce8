//! A source read as a whole, for tests of damaged and of hostile data.

use std::ops::ControlFlow;

use neuroql_formats::{LayerSelection, Request, Result, Source};

/// Reads all tables of a source, and counts what comes.
pub fn read_all(source: Result<impl Source>) -> usize {
    let Ok(source) = source else { return 0 };
    let columns = ["max_activation", "mean", "nodes", "precision"];
    let mut count = 0;
    for table in source.tables() {
        let Ok(layers) = source.layers() else { continue };
        let selection = layers.into_iter().map(|layer| LayerSelection { layer, neurons: None }).collect();
        let mut sink = |_| {
            count += 1;
            ControlFlow::Continue(())
        };
        let _ = source.scan(&Request { table, selection, columns: &columns }, &mut sink);
    }
    count
}
