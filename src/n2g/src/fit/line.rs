//! Patterns as the learner handles them: token ids, the activator first.

/// One step to the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// This token.
    Token(u32),
    /// Any one token.
    Any,
    /// Up to so many tokens, or none.
    Gap(u16),
}

/// A pattern; its first step is the activator.
pub(crate) type Line = Vec<Step>;

/// Whether a pattern matches a text where its activator is at a position.
pub(crate) fn matches(line: &[Step], tokens: &[u32], position: usize) -> bool {
    // The text up to and including the next token to match.
    let mut end = position + 1;
    for (i, step) in line.iter().enumerate() {
        match taken(*step, tokens, end) {
            Some(rest) => end = rest,
            None => return matches!(step, Step::Gap(_)) && matches_from_gap(&line[i..], tokens, end),
        }
    }
    true
}

/// What is left of a text after a step that takes one token; `None` if it does not match, or is a gap.
fn taken(step: Step, tokens: &[u32], end: usize) -> Option<usize> {
    let last = end.checked_sub(1)?;
    match step {
        Step::Any => Some(last),
        Step::Token(token) => (tokens[last] == token).then_some(last),
        Step::Gap(_) => None,
    }
}

/// As [`matches()`], with all that may be left of the text at once: there may be very many ways through several gaps.
fn matches_from_gap(line: &[Step], tokens: &[u32], end: usize) -> bool {
    // Ascending.
    let mut ends = vec![end];
    for step in line {
        ends = match step {
            Step::Gap(most) => {
                let mut next = 0;
                let widened = |end: &usize| {
                    let fewest = end.saturating_sub(usize::from(*most)).max(next);
                    next = end + 1;
                    fewest..=*end
                };
                ends.iter().flat_map(widened).collect()
            }
            step => ends.into_iter().filter_map(|end| taken(*step, tokens, end)).collect(),
        };
        if ends.is_empty() {
            return false;
        }
    }
    true
}

/// The pattern of the tokens of a text whose importance is above a threshold, and of the last one; with gaps instead
/// of wildcards if these may vary in length.
pub(crate) fn line(tokens: &[u32], importances: &[f32], threshold: f32, gaps: bool) -> Line {
    let last = tokens.len() - 1;
    let mut line = vec![Step::Token(tokens[last])];
    let mut skipped = 0;
    for k in (0..last).rev() {
        if importances[k] <= threshold {
            skipped += 1;
            continue;
        }
        match (skipped, gaps) {
            (0, _) => {}
            (n, true) => line.push(Step::Gap(2 * n as u16)),
            (n, false) => line.extend(std::iter::repeat_n(Step::Any, n)),
        }
        skipped = 0;
        line.push(Step::Token(tokens[k]));
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Every way through every gap.
    fn obviously(line: &[Step], tokens: &[u32]) -> bool {
        let Some((step, rest)) = line.split_first() else { return true };
        let shorter = |by: usize| &tokens[..tokens.len() - by];
        match (step, tokens.last()) {
            (Step::Gap(most), _) => (0..=tokens.len().min(usize::from(*most))).any(|n| obviously(rest, shorter(n))),
            (Step::Any, Some(_)) => obviously(rest, shorter(1)),
            (Step::Token(token), Some(last)) => token == last && obviously(rest, shorter(1)),
            (_, None) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_every_way_through_gaps(
            tokens in vec(0..3u32, 1..12),
            line in vec(prop_oneof![
                3 => (0..3u32).prop_map(Step::Token),
                1 => Just(Step::Any),
                2 => (0..4u16).prop_map(Step::Gap),
            ], 0..7),
        ) {
            prop_assert_eq!(matches(&line, &tokens, tokens.len() - 1), obviously(&line, &tokens));
        }
    }

    #[test]
    fn many_gaps_do_not_take_for_ever() {
        let line: Line = (0..60).flat_map(|_| [Step::Token(7), Step::Gap(2)]).chain([Step::Token(8)]).collect();
        assert!(!matches(&line, &[7; 128], 127));
    }

    #[test]
    fn lines_match_where_they_come_from() {
        let (tokens, importances) = ([5, 6, 7, 8], [0.9, 0.1, 0.1, 1.0]);
        let fixed = line(&tokens, &importances, 0.5, false);
        assert_eq!(fixed, [Step::Token(8), Step::Any, Step::Any, Step::Token(5)]);
        assert!(matches(&fixed, &tokens, 3) && !matches(&fixed, &[5, 7, 8], 2));
        let gap = line(&tokens, &importances, 0.5, true);
        assert_eq!(gap, [Step::Token(8), Step::Gap(4), Step::Token(5)]);
        assert!(matches(&gap, &tokens, 3) && matches(&gap, &[5, 8], 1) && matches(&gap, &[5, 0, 0, 0, 0, 8], 5));
        assert!(!matches(&gap, &[5, 0, 0, 0, 0, 0, 8], 6) && !matches(&gap, &[8], 0));
        assert_eq!(line(&tokens, &importances, 1.0, true), [Step::Token(8)]);
    }
}
