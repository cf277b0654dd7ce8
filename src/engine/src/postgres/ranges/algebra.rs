//! Operators of ranges and multiranges. A range is a list of one range or none here, a multirange one of many.

use std::cmp::Ordering;

use datafusion::error::Result;

use super::super::refusal::refusal;
use super::value::{Bound, Side, Span, apart, compare};

impl Span {
    /// Returns true if it ends before the other one begins.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        compare(&self.upper, Side::Upper, &other.lower, Side::Lower) == Ordering::Less
    }

    /// Returns true if there is nothing between its end and the beginning of the other one, and nothing in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (&self.upper, &other.lower) {
            (Bound { point: Some(end), is_inclusive: one }, Bound { point: Some(begin), is_inclusive: two }) => {
                end.order(begin) == Ordering::Equal && one != two
            }
            _ => false,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        !self.is_before(other) && !other.is_before(self)
    }

    fn contains(&self, other: &Self) -> bool {
        self.lower_to(other) != Ordering::Greater && self.upper_to(other) != Ordering::Less
    }

    fn lower_to(&self, other: &Self) -> Ordering {
        compare(&self.lower, Side::Lower, &other.lower, Side::Lower)
    }

    fn upper_to(&self, other: &Self) -> Ordering {
        compare(&self.upper, Side::Upper, &other.upper, Side::Upper)
    }

    /// Returns what is in both, if they overlap.
    fn common(&self, other: &Self) -> Self {
        let lower = if self.lower_to(other) == Ordering::Less { other.lower } else { self.lower };
        let upper = if self.upper_to(other) == Ordering::Greater { other.upper } else { self.upper };
        Self { lower, upper }
    }

    /// Returns the least range that has both in it. Of equal numbers it has the digits of the other one, as in Postgres.
    pub(super) fn around(&self, other: &Self) -> Self {
        let lower = if self.lower_to(other) == Ordering::Less { self.lower } else { other.lower };
        let upper = if self.upper_to(other) == Ordering::Greater { self.upper } else { other.upper };
        Self { lower, upper }
    }

    /// Pushes what is in this one and not in the other, which overlaps it: the part before to `parts`. Returns the part
    /// after.
    fn without(&self, other: &Self, parts: &mut Vec<Self>) -> Option<Self> {
        let turned = |bound: &Bound| Bound { point: bound.point, is_inclusive: !bound.is_inclusive };
        if self.lower_to(other) == Ordering::Less {
            parts.push(Self { lower: self.lower, upper: turned(&other.lower) });
        }
        let ends_later = self.upper_to(other) == Ordering::Greater;
        ends_later.then(|| Self { lower: turned(&other.upper), upper: self.upper })
    }
}

/// Returns the least range that has all of these in it.
pub(super) fn whole(spans: &[Span]) -> Option<Span> {
    Some(Span { lower: spans.first()?.lower, upper: spans.last()?.upper })
}

/// Returns true if each of `inner` is in one of `outer`.
pub(super) fn contains(outer: &[Span], inner: &[Span]) -> bool {
    inner.iter().all(|span| {
        let after = outer.partition_point(|candidate| candidate.lower_to(span) != Ordering::Greater);
        after.checked_sub(1).and_then(|place| outer.get(place)).is_some_and(|candidate| candidate.contains(span))
    })
}

/// Returns true if something is in both.
pub(super) fn overlaps(one: &[Span], other: &[Span]) -> bool {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(left), Some(right)) = (one.peek(), other.peek()) {
        if left.overlaps(right) {
            return true;
        }
        if left.is_before(right) {
            one.next()
        } else {
            other.next()
        };
    }
    false
}

/// Returns true if all of `one` is before all of `other`.
pub(super) fn is_before(one: &[Span], other: &[Span]) -> bool {
    matches!((one.last(), other.first()), (Some(one), Some(other)) if one.is_before(other))
}

/// Returns true if `one` does not end after `other`, or does not begin before it.
pub(super) fn does_not_extend(one: &[Span], other: &[Span], side: Side) -> bool {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => match side {
            Side::Upper => one.upper_to(&other) != Ordering::Greater,
            Side::Lower => one.lower_to(&other) != Ordering::Less,
        },
        _ => false,
    }
}

/// Returns true if one ends where the other begins.
pub(super) fn is_adjacent(one: &[Span], other: &[Span]) -> bool {
    let meets = |one: &[Span], other: &[Span]| matches!((one.last(), other.first()), (Some(one), Some(other)) if one.meets(other));
    meets(one, other) || meets(other, one)
}

pub(super) fn union(one: &[Span], other: &[Span]) -> Vec<Span> {
    apart(one.iter().chain(other).copied().collect())
}

/// Returns the union of two ranges.
///
/// # Errors
/// 22000 if there is something between them.
pub(super) fn range_union(one: &[Span], other: &[Span]) -> Result<Vec<Span>> {
    match (one.first(), other.first()) {
        (Some(left), Some(right)) if !left.overlaps(right) && !is_adjacent(one, other) => {
            Err(refusal("22000", "result of range union would not be contiguous"))
        }
        _ => Ok(merge(one, other).into_iter().collect()),
    }
}

/// Returns the least range that has both in it.
pub(super) fn merge(one: &[Span], other: &[Span]) -> Option<Span> {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => Some(one.around(&other)),
        (one, other) => one.or(other),
    }
}

pub(super) fn intersection(one: &[Span], other: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    let (mut left, mut right) = (0, 0);
    while let (Some(one), Some(two)) = (one.get(left), other.get(right)) {
        if one.overlaps(two) {
            found.push(one.common(two));
        }
        if one.upper_to(two) == Ordering::Less { left += 1 } else { right += 1 }
    }
    found
}

pub(super) fn difference(one: &[Span], other: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut place = 0;
    for span in one {
        while other.get(place).is_some_and(|cut| cut.is_before(span)) {
            place += 1;
        }
        let mut left = Some(*span);
        for cut in &other[place..] {
            let Some(rest) = left.filter(|rest| rest.overlaps(cut)) else { break };
            left = rest.without(cut, &mut found);
        }
        found.extend(left);
    }
    found
}

/// Returns the difference of two ranges.
///
/// # Errors
/// 22000 if the second one is in the middle of the first.
pub(super) fn range_difference(one: &[Span], other: &[Span]) -> Result<Vec<Span>> {
    let found = difference(one, other);
    match found.len() {
        0 | 1 => Ok(found),
        _ => Err(refusal("22000", "result of range difference would not be contiguous")),
    }
}
