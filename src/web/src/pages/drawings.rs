//! Drawings: tokens with their activations as a heat map, histograms and bars.

use std::fmt::Write;

use crate::sql_text::{escaped, number, visible};

/// Number of levels of colour of each sign.
const LEVELS: f32 = 10.0;

/// Returns the class of a level of colour, as a share of the greatest absolute value.
pub(super) fn level(value: f32, greatest: f32) -> String {
    if !(value.is_finite() && greatest > 0.0) {
        return String::new();
    }
    let level = (value.abs() / greatest * LEVELS).round().min(LEVELS) as u8;
    match (level, value > 0.0) {
        (0, _) => String::new(),
        (level, true) => format!(" p{level}"),
        (level, false) => format!(" n{level}"),
    }
}

/// A token of a heat map.
fn token(out: &mut String, text: &str, value: f32, greatest: f32, is_peak: bool, is_first: bool) {
    let peak = if is_peak { " peak" } else { "" };
    let index = if is_first { "0" } else { "-1" };
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<span class=\"t{}{peak}\" tabindex=\"{index}\" data-v=\"{}\" data-t=\"{}\">{}</span>",
        level(value, greatest),
        number(Some(f64::from(value))),
        escaped(text),
        escaped(&visible(text))
    );
}

/// Tokens of a text in colours of their activations, on a scale that all texts of a page share.
pub(super) fn heat(label: &str, tokens: &[String], activations: &[f32], greatest: f32) -> String {
    let peak = peak_of(activations);
    let mut out = format!("<p class=\"heat\" role=\"group\" aria-label=\"{}\">", escaped(label));
    for (index, text) in tokens.iter().enumerate() {
        let value = activations.get(index).copied().unwrap_or(f32::NAN);
        token(&mut out, text, value, greatest, Some(index) == peak, index == 0);
    }
    out.push_str("</p>");
    out
}

/// Tokens with two values each, one above the other: the real activation and a prediction.
pub(super) fn double_heat(
    label: &str,
    tokens: &[String],
    real: &[f32],
    predicted: Option<&[f32]>,
    greatest: f32,
) -> String {
    let Some(predicted) = predicted else { return heat(label, tokens, real, greatest) };
    let peak = peak_of(real);
    let mut out = format!("<p class=\"heat double\" role=\"group\" aria-label=\"{}\">", escaped(label));
    for (index, text) in tokens.iter().enumerate() {
        let value = |values: &[f32]| values.get(index).copied().unwrap_or(f32::NAN);
        out.push_str("<span class=\"pair\">");
        token(&mut out, text, value(real), greatest, Some(index) == peak, index == 0);
        let below = value(predicted);
        let shown = if below.is_finite() && below != 0.0 { number(Some(f64::from(below))) } else { "·".into() };
        let _ =
            write!(out, "<span class=\"below{}\" aria-hidden=\"true\">{shown}</span></span>", level(below, greatest));
    }
    out.push_str("</p>");
    out
}

fn peak_of(values: &[f32]) -> Option<usize> {
    let strongest = values.iter().enumerate().filter(|(_, value)| value.is_finite());
    strongest
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
        .filter(|(_, value)| **value > 0.0)
        .map(|(index, _)| index)
}

/// Edges of the bins of `histogram`: 0, ±2ᵏ and ±1.5·2ᵏ from 2⁻⁶ to 2⁷.
fn edge(bin: i32) -> f64 {
    // Bins 0 to 27 are negative, 28 to 55 are not.
    let side = bin - 28;
    if side == 0 {
        return 0.0;
    }
    let step = side.abs() - 1;
    let size = f64::exp2(f64::from(step.div_euclid(2)) - 6.0) * if step % 2 == 0 { 1.0 } else { 1.5 };
    if side > 0 { size } else { -size }
}

/// A histogram of activations, its shares on a logarithmic scale, and a second one behind it.
pub(super) fn histogram(shares: &[f32], other: Option<&[f32]>) -> String {
    const LEAST: f64 = 1e-6;
    let used = |share: &f32| f64::from(*share) > 0.0;
    let both = || shares.iter().chain(other.unwrap_or_default());
    if !both().any(used) {
        return String::new();
    }
    let within = |values: &[f32]| (values.iter().position(used), values.iter().rposition(used));
    let ends = [within(shares), within(other.unwrap_or_default())];
    let first = ends.iter().filter_map(|(first, _)| *first).min().unwrap_or_default();
    let last = ends.iter().filter_map(|(_, last)| *last).max().unwrap_or_default();
    let bins = last + 1 - first;
    let (width, height) = (360.0, 120.0);
    let step = width / bins as f64;
    let tall = |share: f32| ((f64::from(share).max(LEAST) / LEAST).log10() / 6.0 * height).max(0.0);
    let mut out = format!(
        "<svg class=\"histogram\" viewBox=\"0 0 {width} {:.0}\" role=\"img\" aria-label=\"Histogram of activations from {} to {}; \
         shares of tokens on a logarithmic scale\">",
        height + 34.0,
        number(Some(edge(first as i32))),
        number(Some(edge(last as i32 + 1)))
    );
    for (values, class) in [(other.unwrap_or_default(), "second"), (shares, "first")] {
        for (index, share) in values.iter().enumerate().take(last + 1).skip(first) {
            if !used(share) {
                continue;
            }
            let (x, tall) = ((index - first) as f64 * step, tall(*share));
            let sign = if index < 28 { "negative" } else { "positive" };
            let _ = write!(
                out,
                "<rect class=\"{class} {sign}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"><title>{} to {}: {} % of tokens</title></rect>",
                height - tall,
                (step - 1.0).max(0.5),
                number(Some(edge(index as i32))),
                number(Some(edge(index as i32 + 1))),
                number(Some(f64::from(*share) * 100.0))
            );
        }
    }
    let _ = write!(out, "<line x1=\"0\" x2=\"{width}\" y1=\"{height}\" y2=\"{height}\"/>");
    // Not more labels than can be read.
    let every = bins.div_ceil(7).max(1);
    for index in (first..=last + 1).filter(|index| ((*index as i32 - 28).unsigned_abs() as usize).is_multiple_of(every))
    {
        let anchor = if index == first {
            "start"
        } else if index > last {
            "end"
        } else {
            "middle"
        };
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            (index - first) as f64 * step,
            height + 14.0,
            number(Some(edge(index as i32)))
        );
    }
    let _ = write!(
        out,
        "<text x=\"{width}\" y=\"{:.1}\" text-anchor=\"end\">activation; height: log of share</text></svg>",
        height + 30.0
    );
    out
}

/// Numbers of values in equal bins, as bars.
pub(super) fn bars(label: &str, values: &[f64], low: f64, high: f64) -> String {
    const BINS: usize = 20;
    let mut counts = [0_usize; BINS];
    for value in values.iter().filter(|value| value.is_finite()) {
        let share = ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        counts[((share * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let (width, height) = (360.0, 90.0);
    let step = width / BINS as f64;
    let mut out = format!(
        "<svg class=\"histogram\" viewBox=\"0 0 {width} {:.0}\" role=\"img\" aria-label=\"{}\">",
        height + 18.0,
        escaped(label)
    );
    for (index, count) in counts.iter().enumerate() {
        let tall = *count as f64 / most as f64 * height;
        let bound = |index: usize| number(Some(low + (high - low) * index as f64 / BINS as f64));
        let _ = write!(
            out,
            "<rect class=\"first positive\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"><title>{} to {}: {count} neurons</title></rect>",
            index as f64 * step,
            height - tall,
            step - 1.0,
            bound(index),
            bound(index + 1)
        );
    }
    let _ = write!(
        out,
        "<line x1=\"0\" x2=\"{width}\" y1=\"{height}\" y2=\"{height}\"/><text x=\"0\" y=\"{y}\">{}</text><text x=\"{width}\" y=\"{y}\" text-anchor=\"end\">{}</text></svg>",
        number(Some(low)),
        number(Some(high)),
        y = height + 14.0
    );
    out
}

/// A share as a small bar.
pub(super) fn bar(share: Option<f64>) -> String {
    let Some(share) = share.filter(|share| share.is_finite()) else { return String::new() };
    let width = (share.clamp(0.0, 1.0) * 60.0).round();
    format!(
        "<svg class=\"bar\" width=\"60\" height=\"8\" aria-hidden=\"true\"><rect width=\"60\" height=\"8\" class=\"ground\"/><rect width=\"{width}\" height=\"8\" class=\"first\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_those_of_the_column() {
        let edges: Vec<_> = (1..56).map(edge).collect();
        assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
        assert_eq!((edge(28), edge(29), edge(30), edge(31)), (0.0, 1.0 / 64.0, 1.5 / 64.0, 1.0 / 32.0));
        assert_eq!((edge(1), edge(55)), (-128.0, 128.0));
    }

    #[test]
    fn levels_are_shares_of_the_greatest() {
        assert_eq!([0.0, 0.04, 0.5, 1.0, 7.0].map(|value| level(value, 1.0)), ["", "", " p5", " p10", " p10"]);
        assert_eq!(level(-1.0, 2.0), " n5");
        assert_eq!([level(f32::NAN, 1.0), level(1.0, 0.0), level(1.0, f32::NAN)], ["", "", ""]);
    }

    #[test]
    fn hostile_tokens_are_text() {
        let drawn = heat("a\"b", &["<script>".into(), "\"\u{202e}\0".into()], &[1.0], 1.0);
        assert!(!drawn.contains("<script>") && !drawn.contains('\u{0}') && drawn.contains("\\u{202e}"), "{drawn}");
        assert!(histogram(&[], None).is_empty() && histogram(&[f32::NAN; 56], None).is_empty());
    }
}
