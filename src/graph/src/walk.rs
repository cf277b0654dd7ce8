//! Walks through a trie along the nodes that match a text.

use std::ops::ControlFlow;

use crate::trie::{NONE, Trie};

/// Stack of a walk, kept between walks to save allocations.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    at: Vec<(u32, u32)>,
}

/// Range of the number of tokens taken: all from the first to the last, inclusive.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u32,
    last: u32,
}

impl Trie {
    /// Visits all nodes that match `text`, read from its end. The activator is the last token.
    #[inline]
    pub fn visit_all(&self, text: &[u32], stack: &mut Stack, mut visit: impl FnMut(u32)) {
        let Some(activator) = text.last() else { return };
        let activator = self.activators.get(*activator);
        if activator != NONE {
            self.descend(activator, text, stack, &mut visit);
        }
        if self.fires_on_anything() {
            let top = self.nodes[0];
            if top.any != NONE {
                self.descend(top.any, text, stack, &mut visit);
            }
            top.gap_nodes().for_each(|gap| self.visit_gap(gap, 0, text, &mut visit));
        }
    }

    /// Visits the nodes that match, from a node of depth 0 that does.
    #[inline]
    fn descend(&self, node: u32, text: &[u32], stack: &mut Stack, visit: &mut impl FnMut(u32)) {
        stack.at.clear();
        let mut next = Some((node, 1));
        while let Some((node, taken)) = next {
            visit(node);
            next = None;
            let node = &self.nodes[node as usize];
            if let Some(token) = text.len().checked_sub(taken as usize + 1).map(|at| text[at]) {
                if let Some(child) = self.exact(node, token) {
                    next = Some((child, taken + 1));
                }
                if node.any != NONE {
                    stack.at.extend(next.replace((node.any, taken + 1)));
                }
            } else if node.start != NONE {
                visit(node.start);
            }
            node.gap_nodes().for_each(|gap| self.visit_gap(gap, taken, text, visit));
            next = next.or_else(|| stack.at.pop());
        }
    }

    /// Visits a gap, before which `taken` tokens have been taken, and the nodes that match below it. Each node is
    /// visited once, with all the numbers of tokens that can have been taken: there may be very many paths to it.
    #[cold]
    fn visit_gap(&self, gap: u32, taken: u32, text: &[u32], visit: &mut impl FnMut(u32)) {
        let length = text.len() as u32;
        let mut stack = vec![(gap, self.widened(gap, &[Span { first: taken, last: taken }], length))];
        let mut exact = Vec::new();
        while let Some((at, taken)) = stack.pop() {
            visit(at);
            let node = &self.nodes[at as usize];
            if node.start != NONE && taken.last().is_some_and(|span| span.last == length) {
                visit(node.start);
            }
            node.gap_nodes().for_each(|gap| stack.push((gap, self.widened(gap, &taken, length))));
            if taken.first().is_none_or(|span| span.first == length) {
                continue;
            }
            if node.any != NONE {
                let inside = taken.iter().filter(|span| span.first < length);
                let longer = inside.map(|span| Span { first: span.first + 1, last: length.min(span.last + 1) });
                stack.push((node.any, longer.collect()));
            }
            if node.exact > 0 {
                exact.clear();
                let inside = taken.iter().flat_map(|span| span.first..length.min(span.last + 1));
                exact.extend(inside.filter_map(|taken| {
                    let child = self.exact(node, text[(length - 1 - taken) as usize])?;
                    Some((child, Span { first: taken + 1, last: taken + 1 }))
                }));
                exact.sort_by_key(|(child, _)| *child);
                let same = exact.chunk_by(|(one, _), (other, _)| one == other);
                stack.extend(same.map(|same| (same[0].0, joined(same.iter().map(|(_, span)| *span)))));
            }
        }
    }

    /// Ranges of the number of tokens taken after a gap, given those before it; both ascend.
    fn widened(&self, gap: u32, taken: &[Span], length: u32) -> Vec<Span> {
        let most = u32::from(self.nodes[gap as usize].most);
        joined(taken.iter().map(|span| Span { last: span.last.saturating_add(most).min(length), ..*span }))
    }

    /// Visits the nodes of the path of [`Semantics::Greedy`](crate::Semantics::Greedy), until `visit` breaks.
    pub fn visit_greedily(&self, text: &[u32], mut visit: impl FnMut(u32) -> ControlFlow<()>) {
        let (mut at, mut taken) = (0, 0);
        while let Some((next, more)) = self.preferred(at, text, taken) {
            (at, taken) = (next, taken + more);
            if visit(at).is_break() {
                return;
            }
            taken += self.skipped(at, text, taken);
        }
    }

    /// The child that a greedy walk goes to, and the number of tokens that it takes.
    fn preferred(&self, at: u32, text: &[u32], taken: usize) -> Option<(u32, usize)> {
        let node = &self.nodes[at as usize];
        let token = text.len().checked_sub(taken + 1).map(|at| text[at]);
        if let Some(child) = token.and_then(|token| self.exact_below(at, token)) {
            return Some((child, 1));
        }
        match token {
            None if node.start != NONE => Some((node.start, 0)),
            Some(_) if node.any != NONE => Some((node.any, 1)),
            _ => (node.gaps > 0).then_some((node.gap, 0)),
        }
    }

    /// Number of tokens that a greedy walk lets a gap take; 0 if the node is no gap.
    fn skipped(&self, at: u32, text: &[u32], taken: usize) -> usize {
        let node = &self.nodes[at as usize];
        if node.most == 0 {
            return 0;
        }
        let left = text.len() - taken;
        let fits = |skipped: &usize| match left.checked_sub(skipped + 1) {
            Some(at) => self.exact(node, text[at]).is_some(),
            None => node.start != NONE,
        };
        (0..=left.min(usize::from(node.most))).find(fits).unwrap_or(0)
    }

    fn exact_below(&self, at: u32, token: u32) -> Option<u32> {
        match at {
            0 => Some(self.activators.get(token)).filter(|node| *node != NONE),
            at => self.exact(&self.nodes[at as usize], token),
        }
    }
}

/// Merges spans that meet; they come in the order of their beginnings.
fn joined(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.first <= last.last.saturating_add(1) => last.last = last.last.max(span.last),
            _ => joined.push(span),
        }
    }
    joined
}
