//! Colours of nodes: those of Neuron2Graph, in tones on which text can be read.

use crate::{DisplayKind, DisplayNode};

/// A colour: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour(pub [u8; 3]);

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

const RED: [u8; 3] = [0xe8, 0x3a, 0x30];
const BLUE: [u8; 3] = [0x1d, 0x56, 0xc8];
const GREY: Colour = Colour([0xee, 0xf0, 0xf3]);

/// Activation up to which a node is white. Activators have activations of at least 0.5, contexts importances of at
/// least 0.75, and Neuron2Graph starts its scales 0.2 below.
pub(super) const LEAST_ACTIVATION: f32 = 0.3;
/// Importance up to which a node is white: see [`LEAST_ACTIVATION`].
pub(super) const LEAST_IMPORTANCE: f32 = 0.55;

/// Colour of an activator: the greater the activation, the redder.
pub(super) fn of_activation(activation: f32) -> Colour {
    ramp(RED, (activation - LEAST_ACTIVATION) / (1.0 - LEAST_ACTIVATION))
}

/// Colour of a context: the greater the importance, the bluer.
pub(super) fn of_importance(importance: f32) -> Colour {
    ramp(BLUE, (importance - LEAST_IMPORTANCE) / (1.0 - LEAST_IMPORTANCE))
}

/// Colour of a node.
pub(super) fn of_node(node: &DisplayNode) -> Colour {
    match node.kind {
        DisplayKind::Activator => of_activation(node.weight.activation),
        DisplayKind::Context => of_importance(node.weight.importance),
        DisplayKind::Wildcard(_) | DisplayKind::Start | DisplayKind::Rest => GREY,
    }
}

/// Colour of text on a background: black or white, whichever has more contrast.
pub(super) fn of_text(background: Colour) -> Colour {
    let luminance = luminance(background);
    let [on_black, on_white] = [(luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05)];
    if on_white > on_black { Colour([0xff; 3]) } else { Colour([0; 3]) }
}

/// Interpolates from white (part 0) to a colour (part 1).
fn ramp(to: [u8; 3], part: f32) -> Colour {
    let part = part.clamp(0.0, 1.0);
    Colour(to.map(|channel| (255.0 - part * f32::from(255 - channel)).round() as u8))
}

/// Relative luminance as the Web Content Accessibility Guidelines define it.
fn luminance(colour: Colour) -> f32 {
    let linear = |channel: u8| {
        let part = f32::from(channel) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = colour.0.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_be_read_on_every_colour() {
        for i in 0..=100 {
            for colour in [of_activation(i as f32 / 100.0), of_importance(i as f32 / 100.0)] {
                let (text, ground) = (luminance(of_text(colour)), luminance(colour));
                let contrast = (text.max(ground) + 0.05) / (text.min(ground) + 0.05);
                assert!(contrast >= 4.5, "{colour}: {contrast}");
            }
        }
    }

    #[test]
    fn scales_start_white() {
        assert_eq!(of_activation(0.3).to_string(), "#ffffff");
        assert_eq!(of_activation(7.0).to_string(), "#e83a30");
        assert_eq!(of_importance(-1.0).to_string(), "#ffffff");
    }
}
