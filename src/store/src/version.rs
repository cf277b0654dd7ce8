//! Versions of a model that results hold for.
//!
//! A version names everything that activations depend on beside the text, the tokenizer last. Rows that were written
//! before tokenizers were named end before it; they hold for whichever tokenizer the model has.

use datafusion::logical_expr::{Expr, ident, lit};

/// The separator before the tokenizer in a version.
const TOKENIZER: &str = " tokenizer=";

/// Returns the versions of rows that hold for the current one; none if that is empty.
fn held(current: &str) -> impl Iterator<Item = &str> {
    let unnamed = current.rsplit_once(TOKENIZER).map(|(before, _)| before);
    [Some(current), unnamed].into_iter().flatten().filter(|version| !version.is_empty())
}

/// Returns true if results of one version of a model hold for the current one. An empty version holds for nothing.
pub fn holds_for(stored: &str, current: &str) -> bool {
    held(current).any(|version| version == stored)
}

/// Filter for the rows that hold for the current version.
pub(crate) fn hold_for(current: &str) -> Expr {
    ident("model_version").in_list(held(current).map(lit).collect(), false)
}

#[cfg(test)]
mod tests {
    use super::holds_for;

    #[test]
    fn a_tokenizer_that_is_not_named_may_be_any() {
        let [unnamed, one, other] =
            ["ab mlp.post window=8", "ab mlp.post window=8 tokenizer=cd", "ab mlp.post window=8 tokenizer=ef"];
        for (stored, current, holds) in [
            (one, one, true),
            (one, other, false),
            (unnamed, one, true),
            (unnamed, unnamed, true),
            // The current version names no tokenizer.
            (one, unnamed, false),
            ("ab mlp.post window=9", one, false),
            ("", "", false),
            ("", one, false),
            ("", " tokenizer=cd", false),
            (one, "", false),
        ] {
            assert_eq!(holds_for(stored, current), holds, "{stored:?} for {current:?}");
        }
    }
}
