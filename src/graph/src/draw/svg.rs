//! Drawings as SVG, which need no other program.

use std::fmt::Write;

use super::label::{self, LabelPiece};
use super::layout::{Layout, layout};
use super::theme::Colours;
use super::{DrawOptions, colour, legend};
use crate::{Display, DisplayKind, DisplayNode, Graph, simplify};

/// Margin in pixels.
const MARGIN: f32 = 24.0;
/// Measures of a node's label in pixels: the font, a line, and the room beside and above it.
const FONT: f32 = 13.0;
const LINE: f32 = 17.0;
const BESIDE: f32 = 10.0;
const ABOVE: f32 = 5.5;
/// Greatest number of cells of a line of a label, at the full size of the font and at the least.
const CELLS: usize = 22;
const CELLS_SMALL: usize = 29;
/// Width of a cell as a share of the size of the font: most fonts of fixed width have 0.6.
const CELL: f32 = 0.605;
/// Greatest number of lines of tokens in a node.
const LINES: usize = 6;
/// Distances in pixels between nodes, and between unconnected parts.
const GAP: f32 = 9.0;
const APART: f32 = 30.0;
const MONOSPACE: &str = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace";
const SANS: &str = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif";
const OUTLINE: &str = "#8a909c";
/// Greatest number of tokens of a node that its link searches for.
const LINKED: usize = 20;

/// The graph as a stand-alone SVG, [simplified](crate::simplify) to [`DrawOptions::max_nodes`].
///
/// Columns are tokens by their order in the text, the activators rightmost and in red by activation, contexts in blue
/// by importance; nodes with which a pattern is complete have a bold outline, and so each path from one of them to an
/// activator is a pattern. A pill right of a token says how many tokens are skipped after it. Tooltips have whole
/// tokens and their numbers. It has no ids and no styles, so many can stand in one page.
pub fn svg(graph: &Graph, options: &DrawOptions) -> String {
    let display = simplify(graph, options.max_nodes);
    let boxes: Vec<NodeBox> = display.nodes.iter().map(NodeBox::new).collect();
    let columns = columns(&display.nodes, &boxes);
    let heights: Vec<f32> = boxes.iter().map(|b| b.height).collect();
    let places = layout(&display.nodes, &heights, GAP, APART);
    let title = options.heading();
    let drawn_width = columns.first().map_or(0.0, |column| column.x + column.width);
    let title_width = title.as_deref().map_or(0.0, |title| text_width(title, 16.0).min(900.0));
    let width = drawn_width.max(title_width).max(380.0);
    let colours = options.theme.colours();
    let mut svg = Svg { out: String::new(), colours, link: options.link.clone() };
    let mut top = MARGIN;
    if let Some(title) = &title {
        let title: String = label::clip(vec![LabelPiece::plain(title)], (width / (16.0 * CELL)) as usize)
            .iter()
            .map(|p| &*p.text)
            .collect();
        svg.text(MARGIN, top + 14.0, &format!("font-size=\"16\" font-weight=\"600\" fill=\"{}\"", colours.ink), &title);
        top += 36.0;
    }
    if display.nodes.is_empty() {
        svg.text(
            MARGIN,
            top + 12.0,
            &format!("font-size=\"13\" fill=\"{}\"", colours.muted),
            "No patterns: nothing is known to activate it.",
        );
        top += 20.0;
    } else {
        // A drawing that is narrower than its title or legend is centred.
        let left = MARGIN + (width - drawn_width) / 2.0;
        svg.drawing(&display, &boxes, &columns, &places, (left, top));
        top += places.height + 26.0;
        top = legend::legend(&mut svg, &display, (MARGIN, top), width);
    }
    svg.finish(width + 2.0 * MARGIN, top + MARGIN - 6.0, title.as_deref())
}

/// Column of nodes: the left edge and the width of its nodes, and the width of the pills right of them.
#[derive(Debug, Clone, Copy, Default)]
struct NodeColumn {
    x: f32,
    width: f32,
    pills: f32,
}

/// Box of a node: its label and size.
struct NodeBox {
    lines: Vec<Vec<LabelPiece>>,
    font: f32,
    width: f32,
    height: f32,
    pill: Option<(String, f32)>,
}

impl NodeBox {
    fn new(node: &DisplayNode) -> Self {
        let one = node.tokens.len() <= 1;
        let lines = label::lines(node, if one { CELLS_SMALL } else { CELLS }, LINES);
        let cells = lines.iter().map(|line| label::width(line)).max().unwrap_or_default();
        // A long token that is alone is written smaller before it is cut.
        let font = if cells > CELLS { FONT * CELLS as f32 / cells as f32 } else { FONT };
        let pill = (!node.skip.is_none()).then(|| label::skipped(node.skip));
        Self {
            font,
            width: (cells as f32 * CELL * font + 2.0 * BESIDE).max(30.0),
            height: lines.len() as f32 * LINE + 2.0 * ABOVE,
            pill: pill.map(|text| {
                let width = label::width(&[LabelPiece::plain(&*text)]) as f32 * CELL * 11.0 + 10.0;
                (text, width)
            }),
            lines,
        }
    }
}

/// Horizontal layout of the columns, by depth: the last is leftmost.
fn columns(nodes: &[DisplayNode], boxes: &[NodeBox]) -> Vec<NodeColumn> {
    let mut columns: Vec<NodeColumn> = Vec::new();
    let mut crowds: Vec<usize> = Vec::new();
    for (node, b) in nodes.iter().zip(boxes) {
        let depth = node.depth as usize;
        columns.resize(columns.len().max(depth + 1), NodeColumn::default());
        crowds.resize(columns.len(), 0);
        let column = &mut columns[depth];
        column.width = column.width.max(b.width);
        column.pills = column.pills.max(b.pill.as_ref().map_or(0.0, |pill| pill.1 + 6.0));
        crowds[depth] += 1;
    }
    let mut x = 0.0;
    for depth in (0..columns.len()).rev() {
        columns[depth].x = x;
        // More edges are steeper, so they get more room.
        let crowd = crowds[depth].max(crowds[depth.saturating_sub(1)]) as f32;
        x += columns[depth].width + columns[depth].pills + (44.0 + 2.0 * crowd).min(130.0);
    }
    columns
}

/// Greatest width in pixels of a text in the font of titles and legends, whose letters are narrower than cells.
pub(super) fn text_width(text: &str, size: f32) -> f32 {
    label::width(&[LabelPiece::plain(text)]) as f32 * 0.57 * size
}

/// An SVG that is being written.
pub(super) struct Svg {
    out: String,
    pub colours: Colours,
    link: Option<String>,
}

impl Svg {
    pub fn write(&mut self, what: std::fmt::Arguments) {
        // Writing to a string does not fail.
        let _ = self.out.write_fmt(what);
    }

    /// Writes a text with its baseline at a place.
    pub fn text(&mut self, x: f32, y: f32, attributes: &str, text: &str) {
        self.write(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escape(text)));
    }

    /// Writes a grey pill with a text, given its left edge and vertical centre.
    pub fn pill(&mut self, (x, y): (f32, f32), width: f32, text: &str) {
        self.write(format_args!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\" rx=\"8\" fill=\"#f3f4f6\" \
             stroke=\"#c3c8d0\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" \
             font-family=\"{MONOSPACE}\" fill=\"#555b66\">{}</text>\n",
            y - 8.0,
            x + width / 2.0,
            y + 4.0,
            escape(text)
        ));
    }

    fn drawing(
        &mut self,
        display: &Display,
        boxes: &[NodeBox],
        columns: &[NodeColumn],
        places: &Layout,
        (left, top): (f32, f32),
    ) {
        let at = |i: usize| (columns[display.nodes[i].depth as usize], top + places.centres[i]);
        let edge = self.colours.edge;
        self.write(format_args!("<g fill=\"none\" stroke=\"{edge}\" stroke-width=\"1.4\">\n"));
        let mut reached = vec![false; display.nodes.len()];
        for (i, node) in display.nodes.iter().enumerate() {
            let (column, y) = at(i);
            let [start, turn] = [column.x + column.width, column.x + column.width + column.pills].map(|x| left + x);
            for to in &node.towards {
                let (next, end_y) = at(*to as usize);
                let end = left + next.x - 6.0;
                let middle = f32::midpoint(turn, end);
                self.write(format_args!(
                    "<path d=\"M{start:.1} {y:.1}H{turn:.1}C{middle:.1} {y:.1} {middle:.1} {end_y:.1} {end:.1} {end_y:.1}\"/>\n"
                ));
                reached[*to as usize] = true;
            }
        }
        self.write(format_args!("</g>\n"));
        for (i, _) in reached.into_iter().enumerate().filter(|(_, reached)| *reached) {
            let (column, y) = at(i);
            let x = left + column.x - 1.0;
            self.write(format_args!("<path d=\"M{x:.1} {y:.1}l-8 -4.5v9z\" fill=\"{edge}\" stroke=\"none\"/>\n"));
        }
        self.write(format_args!("<g font-family=\"{MONOSPACE}\" text-anchor=\"middle\">\n"));
        for (i, (node, b)) in display.nodes.iter().zip(boxes).enumerate() {
            let (column, y) = at(i);
            self.node(node, b, (left + column.x, column.width), y);
            if let Some((text, width)) = &b.pill {
                self.pill((left + column.x + column.width + 4.0, y), *width, text);
            }
        }
        self.write(format_args!("</g>\n"));
    }

    fn node(&mut self, node: &DisplayNode, b: &NodeBox, (x, width): (f32, f32), y: f32) {
        let fill = colour::of_node(node);
        let (outline, bold) = if node.complete { (self.colours.ink, 3.0) } else { (OUTLINE, 1.0) };
        let round =
            if matches!(node.kind, DisplayKind::Activator | DisplayKind::Context) { 4.0 } else { b.height / 2.0 };
        let link = self
            .link
            .as_ref()
            .and_then(|link| Some(format!("{}{}", escape(link).replace('"', "&quot;"), query(node)?)));
        if let Some(link) = &link {
            self.write(format_args!("<a href=\"{link}\" data-tokens=\"{}\">", tokens(node)));
        }
        self.write(format_args!(
            "<g fill=\"{}\" font-size=\"{:.1}\"><title>{}</title>\n<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
             height=\"{:.1}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"{outline}\" stroke-width=\"{bold}\"/>\n",
            colour::of_text(fill),
            b.font,
            escape(&label::details(node)),
            y - b.height / 2.0,
            b.height,
        ));
        let first = y - b.height / 2.0 + ABOVE + LINE / 2.0 + b.font * 0.35;
        for (i, line) in b.lines.iter().enumerate() {
            self.write(format_args!("<text x=\"{:.1}\" y=\"{:.1}\">", x + width / 2.0, first + i as f32 * LINE));
            let seen = line.iter().any(|piece| !piece.faint);
            for piece in line {
                let text = escape(&piece.text);
                // Right-to-left text is isolated within its token.
                match piece.faint && seen {
                    true => self.write(format_args!("<tspan opacity=\"0.65\">{text}</tspan>")),
                    false if b.lines.len() + line.len() > 2 && !piece.text.is_ascii() => {
                        self.write(format_args!("<tspan unicode-bidi=\"isolate\">{text}</tspan>"));
                    }
                    false => self.write(format_args!("{text}")),
                }
            }
            self.write(format_args!("</text>\n"));
        }
        self.write(format_args!("</g>{}\n", if link.is_some() { "</a>" } else { "" }));
    }

    fn finish(self, width: f32, height: f32, title: Option<&str>) -> String {
        // A picture has no links in it, for those who hear it; and each has a name.
        let role = if self.link.is_some() { "group" } else { "img" };
        let name = if title.is_none() { " aria-label=\"Neuron graph\"" } else { "" };
        let title = title.map_or(String::new(), |title| format!("<title>{}</title>\n", escape(title)));
        let ground = |fill| format!("<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{fill}\"/>\n");
        let ground = self.colours.ground.map_or(String::new(), ground);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"{role}\"{name} font-family=\"{SANS}\">\n{title}\
             {ground}{}</svg>\n",
            self.out
        )
    }
}

/// Returns the query, encoded for an address, that finds neurons with the tokens of a node in its role.
fn query(node: &DisplayNode) -> Option<String> {
    let role = match node.kind {
        DisplayKind::Activator => "activating",
        DisplayKind::Context => "important",
        DisplayKind::Wildcard(_) | DisplayKind::Start | DisplayKind::Rest => return None,
    };
    let named = node.tokens.iter().filter(|shown| !shown.token.text.is_empty()).take(LINKED);
    let terms: Vec<_> = named.map(|shown| format!("{role}:={}", label::quoted(&shown.token.text))).collect();
    (!terms.is_empty()).then(|| percent_encoded(&terms.join(" OR ")))
}

/// Returns the tokens of a node, encoded, with spaces between them.
fn tokens(node: &DisplayNode) -> String {
    let tokens: Vec<_> = node.tokens.iter().map(|shown| percent_encoded(&shown.token.text)).collect();
    tokens.join(" ")
}

/// Encodes a text as a part of an address (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// Escapes a text for XML, which has no control characters: earlier escapes left none.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
