//! Error of 16-bit weights: activations at each site beside those of f32 weights.
//!
//! `cargo bench -p neuroql-model --bench precision -- MODEL TEXT_FILE [DTYPE] [TOKENS] [LAYER…]` runs the first tokens of a text
//! in windows of 128 and prints a JSON line for each site and layer: the root of the mean square of the differences as a
//! share of that of the values, and the greatest difference as a share of the greatest value. `tests/bench/precision.py`
//! prints the same for PyTorch.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its result")]

use neuroql_model::{Batch, Cancel, Model, Options, ReadSpec, Site};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [location, file, rest @ ..] = arguments.as_slice() else {
        eprintln!("arguments: MODEL TEXT_FILE [DTYPE] [TOKENS] [LAYER…]");
        return Ok(());
    };
    let dtype = rest.first().map_or("bf16", String::as_str);
    let limit = rest.get(1).map_or(Ok(1024), |n| n.parse::<usize>())?;
    let text = std::fs::read_to_string(file)?;
    let wanted = rest.iter().skip(2).map(|l| l.parse::<usize>()).collect::<Result<Vec<_>, _>>()?;
    for site in [Site::AttnZ, Site::ResidMid, Site::MlpPre, Site::MlpPost, Site::MlpOut, Site::ResidPost] {
        let load = |dtype: &str| {
            let options =
                Options { window: Some(127), site: Some(site), dtype: Some(dtype.parse()?), ..Options::default() };
            Model::load("model", location, &options, &())
        };
        let (exact, model) = (load("f32")?, load(dtype)?);
        let mut tokens = model.tokenizer().encode(&text)?;
        tokens.truncate(limit);
        let layers = if wanted.is_empty() { vec![model.config().layers - 1] } else { wanted.clone() };
        let run = |model: &Model| {
            let spec = ReadSpec::new(model, layers.iter().map(|l| (*l, None)))?;
            model.run(&Batch::new(model.examples(&tokens), model.bos()), &spec, &Cancel::default())
        };
        for ((layer, got), exact) in layers.iter().zip(run(&model)?).zip(run(&exact)?) {
            let (got, exact) = (got.flatten_all()?.to_vec1::<f32>()?, exact.flatten_all()?.to_vec1::<f32>()?);
            let (mut squares, mut all, mut worst, mut largest) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
            for (got, exact) in got.iter().zip(&exact) {
                let (difference, exact) = (f64::from(got - exact), f64::from(*exact));
                (squares, all) = (squares + difference * difference, all + exact * exact);
                (worst, largest) = (worst.max(difference.abs()), largest.max(exact.abs()));
            }
            let (rms, max) = ((squares / all).sqrt(), worst / largest);
            println!("{{\"site\": \"{site}\", \"layer\": {layer}, \"rms\": {rms:.2e}, \"max\": {max:.2e}}}");
        }
    }
    Ok(())
}
