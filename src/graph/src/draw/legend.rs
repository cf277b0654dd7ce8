//! Legend of the signs in a drawing.

use super::colour;
use super::label::left_out;
use super::svg::{Svg, text_width};
use crate::{Display, DisplayKind};

const SIZE: f32 = 11.0;
const ROW: f32 = 22.0;

/// Sign of a legend entry, drawn before its meaning.
enum Sign {
    Scale([colour::Colour; 4]),
    Outline,
    Pill(&'static str),
    Nothing,
}

impl Sign {
    fn width(&self) -> f32 {
        match self {
            Self::Scale(_) => 52.0,
            Self::Outline => 22.0,
            Self::Pill(text) => text_width(text, SIZE) + 10.0,
            Self::Nothing => -6.0,
        }
    }
}

/// Writes the legend below a drawing, in rows of at most `width`; returns its bottom.
pub(super) fn legend(svg: &mut Svg, display: &Display, (left, top): (f32, f32), width: f32) -> f32 {
    let (mut x, mut y) = (left, top);
    let attributes = format!("font-size=\"11\" fill=\"{}\"", svg.colours.muted);
    for (sign, meaning) in entries(display) {
        let entry = sign.width() + 6.0 + text_width(&meaning, SIZE);
        if x > left && x + entry > left + width {
            (x, y) = (left, y + ROW);
        }
        draw(svg, &sign, (x, y));
        svg.text(x + sign.width() + 6.0, y + 4.0, &attributes, &meaning);
        x += entry + 14.0;
    }
    y + ROW / 2.0
}

fn entries(display: &Display) -> Vec<(Sign, String)> {
    let has = |kind: fn(&DisplayKind) -> bool| display.nodes.iter().any(|node| kind(&node.kind));
    let skips = display.nodes.iter().any(|node| !node.skip.is_none());
    let steps = |least: f32, of: fn(f32) -> colour::Colour| {
        Sign::Scale([0.0, 0.34, 0.67, 1.0].map(|part| of(least + part * (1.0 - least))))
    };
    let mut entries = Vec::new();
    if has(|kind| *kind == DisplayKind::Activator) {
        let least = colour::LEAST_ACTIVATION;
        entries.push((steps(least, colour::of_activation), format!("activation {least} to 1")));
    }
    if has(|kind| *kind == DisplayKind::Context) {
        let least = colour::LEAST_IMPORTANCE;
        entries.push((steps(least, colour::of_importance), format!("importance {least} to 1")));
    }
    if display.nodes.iter().any(|node| node.complete) {
        entries.push((Sign::Outline, "complete pattern".to_owned()));
    }
    if skips || has(|kind| matches!(kind, DisplayKind::Wildcard(_))) {
        entries.push((Sign::Pill("·2"), "tokens skipped".to_owned()));
    }
    if display.hidden > 0 {
        entries.push((Sign::Nothing, format!("{} not drawn", left_out(display.hidden))));
    }
    entries
}

fn draw(svg: &mut Svg, sign: &Sign, (x, y): (f32, f32)) {
    match sign {
        Sign::Scale(steps) => {
            for (i, step) in steps.iter().enumerate() {
                svg.write(format_args!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"13\" height=\"12\" fill=\"{step}\" stroke=\"#c3c8d0\"/>\n",
                    x + 13.0 * i as f32,
                    y - 6.0
                ));
            }
        }
        Sign::Outline => {
            let (ground, ink) = (svg.colours.ground.unwrap_or("none"), svg.colours.ink);
            svg.write(format_args!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"20\" height=\"12\" rx=\"3\" fill=\"{ground}\" stroke=\"{ink}\" \
                 stroke-width=\"3\"/>\n",
                x + 1.0,
                y - 6.0
            ));
        }
        Sign::Pill(text) => svg.pill((x, y), sign.width(), text),
        Sign::Nothing => {}
    }
}
