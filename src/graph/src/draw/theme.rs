//! Colours of a drawing besides those of its nodes.

/// Colours of an SVG's title, legend, lines and ground.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark on white.
    #[default]
    Light,
    /// Light on nearly black.
    Dark,
    /// The colour of the text around it (`currentColor`), without a ground of its own: for a drawing that is part of a
    /// page.
    Page,
}

impl Theme {
    /// All themes.
    pub const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::Page];

    /// Its name: `light`, `dark` or `page`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Page => "page",
        }
    }

    /// The theme of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.name() == name)
    }

    pub(super) fn colours(self) -> Colours {
        match self {
            Self::Light => Colours { ink: "#1f2430", muted: "#555b66", edge: "#9aa0ab", ground: Some("#ffffff") },
            Self::Dark => Colours { ink: "#e6e9ef", muted: "#b3bac6", edge: "#7d8592", ground: Some("#14171f") },
            Self::Page => Colours { ink: "currentColor", muted: "currentColor", edge: "#868d99", ground: None },
        }
    }
}

/// The colours of a theme.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colours {
    /// Titles and outlines of complete patterns.
    pub ink: &'static str,
    /// Legends.
    pub muted: &'static str,
    /// Edges.
    pub edge: &'static str,
    /// Background.
    pub ground: Option<&'static str>,
}
