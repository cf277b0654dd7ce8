//! Compact patterns, on token ids: their steps from the activator to the left.

/// Step of a pattern, to the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PatternStep {
    /// A token.
    Token(u32),
    /// Any one token.
    Any,
    /// A gap of up to this many tokens, or none.
    Gap(u16),
}

/// A pattern; its first step is the activator.
pub(crate) type CompactPattern = Vec<PatternStep>;

/// Returns true if a pattern matches a text with its activator at a position.
pub(crate) fn matches(line: &[PatternStep], tokens: &[u32], position: usize) -> bool {
    // End of the text that is left to match.
    let mut end = position + 1;
    for (i, step) in line.iter().enumerate() {
        match taken(*step, tokens, end) {
            Some(rest) => end = rest,
            None => return matches!(step, PatternStep::Gap(_)) && matches_from_gap(&line[i..], tokens, end),
        }
    }
    true
}

/// End of the text left after a step of one token; `None` if it does not match, or is a gap.
fn taken(step: PatternStep, tokens: &[u32], end: usize) -> Option<usize> {
    let last = end.checked_sub(1)?;
    match step {
        PatternStep::Any => Some(last),
        PatternStep::Token(token) => (tokens[last] == token).then_some(last),
        PatternStep::Gap(_) => None,
    }
}

/// Matches as [`matches()`] does, with all possible ends at once: there may be very many ways through several gaps.
fn matches_from_gap(line: &[PatternStep], tokens: &[u32], end: usize) -> bool {
    // Ascending.
    let mut ends = vec![end];
    for step in line {
        ends = match step {
            PatternStep::Gap(most) => {
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

/// Makes the pattern of the tokens of a text whose importance is above a threshold, and of the last one; with gaps in
/// place of wildcards if `gaps`.
pub(crate) fn compact_pattern(tokens: &[u32], importances: &[f32], threshold: f32, gaps: bool) -> CompactPattern {
    let last = tokens.len() - 1;
    let mut line = vec![PatternStep::Token(tokens[last])];
    let mut skipped = 0;
    for k in (0..last).rev() {
        if importances[k] <= threshold {
            skipped += 1;
            continue;
        }
        match (skipped, gaps) {
            (0, _) => {}
            (n, true) => line.push(PatternStep::Gap(2 * n as u16)),
            (n, false) => line.extend(std::iter::repeat_n(PatternStep::Any, n)),
        }
        skipped = 0;
        line.push(PatternStep::Token(tokens[k]));
    }
    line
}

/// Position of each step of a pattern in the text, of the given length, from which [`compact_pattern`] made it; of a
/// gap, that of its first token.
pub(crate) fn places(line: &[PatternStep], length: usize) -> impl Iterator<Item = usize> {
    line.iter().scan(length, |at, step| {
        *at -= match step {
            PatternStep::Token(_) | PatternStep::Any => 1,
            PatternStep::Gap(most) => usize::from(*most) / 2,
        };
        Some(*at)
    })
}

/// Tokens of a pattern: their indices in it, and their positions in its text, of the given length.
pub(crate) fn tokens(line: &[PatternStep], length: usize) -> impl Iterator<Item = (usize, usize)> {
    let tokens = line.iter().zip(places(line, length)).enumerate();
    tokens.filter_map(|(i, (step, at))| matches!(step, PatternStep::Token(_)).then_some((i, at)))
}

/// Replaces the token of position `at` of that text in the pattern; `None` if the pattern does not have it.
pub(crate) fn replaced(line: &[PatternStep], length: usize, at: usize, token: u32) -> Option<CompactPattern> {
    let (step, _) = tokens(line, length).find(|(_, place)| *place == at)?;
    let mut line = line.to_vec();
    line[step] = PatternStep::Token(token);
    Some(line)
}

/// Returns true if a pattern matches wherever another of the same text does, which has its tokens and maybe more.
pub(crate) fn covers(wider: &[PatternStep], other: &[PatternStep]) -> bool {
    // Wildcards of fixed length miss texts that a gap matches.
    !(wider.contains(&PatternStep::Any) && other.iter().any(|step| matches!(step, PatternStep::Gap(_))))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Matches by trying every way through every gap.
    fn obviously(line: &[PatternStep], tokens: &[u32]) -> bool {
        let Some((step, rest)) = line.split_first() else { return true };
        let shorter = |by: usize| &tokens[..tokens.len() - by];
        match (step, tokens.last()) {
            (PatternStep::Gap(most), _) => {
                (0..=tokens.len().min(usize::from(*most))).any(|n| obviously(rest, shorter(n)))
            }
            (PatternStep::Any, Some(_)) => obviously(rest, shorter(1)),
            (PatternStep::Token(token), Some(last)) => token == last && obviously(rest, shorter(1)),
            (_, None) => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_every_way_through_gaps(
            tokens in vec(0..3u32, 1..12),
            line in vec(prop_oneof![
                3 => (0..3u32).prop_map(PatternStep::Token),
                1 => Just(PatternStep::Any),
                2 => (0..4u16).prop_map(PatternStep::Gap),
            ], 0..7),
        ) {
            prop_assert_eq!(matches(&line, &tokens, tokens.len() - 1), obviously(&line, &tokens));
        }
    }

    proptest! {
        #[test]
        fn a_token_is_replaced_where_it_came_from(
            (text, importances, at) in (1..9usize)
                .prop_flat_map(|length| (vec(0..5u32, length), vec(0.0..1.0f32, length), 0..length)),
            gaps in any::<bool>(),
        ) {
            let last = text.len() - 1;
            let made = compact_pattern(&text, &importances, 0.5, gaps);
            for (step, place) in tokens(&made, text.len()) {
                prop_assert_eq!(made[step], PatternStep::Token(text[place]));
            }
            let other = replaced(&made, text.len(), at, 9);
            prop_assert_eq!(other.is_some(), at == last || importances[at] > 0.5);
            if let Some(other) = other {
                let mut replaced = text.clone();
                replaced[at] = 9;
                prop_assert_eq!(&other, &compact_pattern(&replaced, &importances, 0.5, gaps));
            }
        }
    }

    proptest! {
        #[test]
        fn wider_patterns_cover_others(
            (text, importances) in (1..7usize).prop_flat_map(|length| (vec(0..3u32, length), vec(0.0..1.0f32, length))),
            read in vec(0..3u32, 1..16),
            (gaps, other_gaps) in any::<(bool, bool)>(),
            (threshold, less) in (0.0..1.0f32, 0.0..0.5f32),
        ) {
            let wider = compact_pattern(&text, &importances, threshold, gaps);
            let other = compact_pattern(&text, &importances, threshold - less, other_gaps);
            let last = read.len() - 1;
            if covers(&wider, &other) && matches(&other, &read, last) {
                prop_assert!(matches(&wider, &read, last), "{:?} {:?} {:?}", wider, other, read);
            }
        }
    }

    #[test]
    fn many_gaps_do_not_take_for_ever() {
        let line: CompactPattern =
            (0..60).flat_map(|_| [PatternStep::Token(7), PatternStep::Gap(2)]).chain([PatternStep::Token(8)]).collect();
        assert!(!matches(&line, &[7; 128], 127));
    }

    #[test]
    fn lines_match_where_they_come_from() {
        let (tokens, importances) = ([5, 6, 7, 8], [0.9, 0.1, 0.1, 1.0]);
        let fixed = compact_pattern(&tokens, &importances, 0.5, false);
        assert_eq!(fixed, [PatternStep::Token(8), PatternStep::Any, PatternStep::Any, PatternStep::Token(5)]);
        assert!(matches(&fixed, &tokens, 3) && !matches(&fixed, &[5, 7, 8], 2));
        let gap = compact_pattern(&tokens, &importances, 0.5, true);
        assert_eq!(gap, [PatternStep::Token(8), PatternStep::Gap(4), PatternStep::Token(5)]);
        assert!(matches(&gap, &tokens, 3) && matches(&gap, &[5, 8], 1) && matches(&gap, &[5, 0, 0, 0, 0, 8], 5));
        assert!(!matches(&gap, &[5, 0, 0, 0, 0, 0, 8], 6) && !matches(&gap, &[8], 0));
        assert_eq!(compact_pattern(&tokens, &importances, 1.0, true), [PatternStep::Token(8)]);
    }
}
