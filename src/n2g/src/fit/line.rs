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
        match step {
            Step::Gap(most) => {
                let rest = &line[i + 1..];
                let fewest = end.saturating_sub(usize::from(*most));
                return (fewest..=end).rev().any(|end| match end.checked_sub(1) {
                    Some(position) => matches(rest, tokens, position),
                    None => rest.is_empty(),
                });
            }
            Step::Any | Step::Token(_) => {
                let Some(last) = end.checked_sub(1) else { return false };
                if matches!(step, Step::Token(token) if tokens[last] != *token) {
                    return false;
                }
                end = last;
            }
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
    use super::*;

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
