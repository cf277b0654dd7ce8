//! Pearson correlations of all pairs of neurons over a corpus.

mod centred;
mod coactivations;
mod product;
mod tiles;

use std::cmp::Ordering;
use std::ops::Range;

use rayon::prelude::*;

use crate::moments::Moments;
use crate::{Error, Result};
use centred::{Centred, ROWS};
use product::transposed_product;
use tiles::{Tile, Tiles};

pub use coactivations::{CoActivations, Overlap};

/// Co-moments `Σ (x − mean x)·(y − mean y)` of all pairs of neurons: of one set of neurons with each other, or of one set
/// with another, which may belong to another layer or to another model that reads the same tokens.
///
/// Activations are centred in f64, a few hundred rows at a time about their own means, and multiplied in f32; products
/// are added up in f64 by the formulas of Pébay (Sandia SAND2008-6212), as [`Moments`] are, so that neither large means
/// nor long corpora lose digits. Correlations have errors of about 1e-6, less for longer corpora.
///
/// The last digits of results depend on the batches of the corpus and on their order, but not on threads: with
/// [`CoMoments::add`] called on several threads of a rayon pool each tile of pairs still sees the batches in order. To
/// add batches in parallel, make a `CoMoments` of each and [merge](CoMoments::merge) them in order.
///
/// ```
/// use neuroql_analysis::{CoMoments, Sign};
///
/// // Four tokens, three neurons: the second is twice the first, the third never changes.
/// let x = [1.0, 2.0, 7.0, 3.0, 6.0, 7.0, 0.0, 0.0, 7.0, 2.0, 4.0, 7.0];
/// let mut pairs = CoMoments::within(3);
/// pairs.add(&x)?;
/// assert!((pairs.correlation(0, 1).unwrap() - 1.0).abs() < 1e-6);
/// assert_eq!(pairs.correlation(0, 2), None);
/// assert_eq!(pairs.strongest(0, 5, Sign::Positive)[0].neuron, 1);
///
/// // The first two against the third, as if they were of different layers.
/// let mut pairs = CoMoments::between(2, 1);
/// pairs.add_pairs(&[1.0, 2.0, 3.0, 6.0], &[7.0, 5.0])?;
/// assert!((pairs.correlation(1, 0).unwrap() + 1.0).abs() < 1e-6);
/// # Ok::<(), neuroql_analysis::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CoMoments {
    x: Vec<Moments>,
    /// Moments of the second set; empty for pairs within one set.
    y: Vec<Moments>,
    products: Tiles<f64, WIDTH>,
}

/// Sign of the strongest correlations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The greatest are the strongest.
    Positive,
    /// The least are the strongest: anti-correlated neurons.
    Negative,
    /// The greatest in magnitude are the strongest.
    Either,
}

/// A neuron and its correlation with a given one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlate {
    /// Index of the neuron.
    pub neuron: u32,
    /// Pearson's r, −1 to 1.
    pub correlation: f64,
}

impl CoMoments {
    /// Makes empty co-moments of `width` neurons with each other.
    pub fn within(width: usize) -> Self {
        Self { x: vec![Moments::default(); width], y: Vec::new(), products: Tiles::new(width, width, true) }
    }

    /// Makes empty co-moments of `width` neurons with `others` of another set.
    pub fn between(width: usize, others: usize) -> Self {
        Self {
            x: vec![Moments::default(); width],
            y: vec![Moments::default(); others],
            products: Tiles::new(width, others, false),
        }
    }

    /// Size in bytes, without some two thousand rows of a batch while it is added; `others` as in
    /// [`CoMoments::between`], `None` for [`CoMoments::within`].
    pub fn bytes(width: usize, others: Option<usize>) -> usize {
        let pairs = Tiles::<(), WIDTH>::size(width, others.unwrap_or(width), others.is_none());
        (width + others.unwrap_or(0)) * size_of::<Moments>() + pairs * size_of::<f64>()
    }

    /// Number of tokens added.
    pub fn tokens(&self) -> u64 {
        self.x.first().map_or(0, |moments| moments.count)
    }

    /// Adds a batch to pairs within one set; `x` is `[tokens, width]`. A value that is NaN or infinite leaves its neuron
    /// without correlations.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has no whole rows, or the pairs are of two sets.
    pub fn add(&mut self, x: &[f32]) -> Result<()> {
        if !self.products.symmetric() {
            return Err(Error::Shape { expected: self.products.columns(), found: 0 });
        }
        let rows = rows_of(x, self.x.len())?;
        let mut parts = Vec::new();
        for rows in groups(rows) {
            centre(x, self.x.len(), rows, &mut parts);
            let shifts = merge_all(&mut self.x, &parts);
            self.add_products((&parts, &shifts), (&parts, &shifts));
        }
        Ok(())
    }

    /// Adds a batch to pairs of two sets; `x` is `[tokens, width]` and `y` `[tokens, others]`, row for row of the same
    /// tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not of as many whole rows, or the pairs are within one set.
    pub fn add_pairs(&mut self, x: &[f32], y: &[f32]) -> Result<()> {
        let rows = rows_of(x, self.x.len())?;
        let others = self.products.columns();
        if self.products.symmetric() || y.len() != rows * others {
            return Err(Error::Shape { expected: rows * others, found: y.len() });
        }
        let (mut x_parts, mut y_parts) = (Vec::new(), Vec::new());
        for rows in groups(rows) {
            centre(x, self.x.len(), rows.clone(), &mut x_parts);
            centre(y, others, rows, &mut y_parts);
            let (x_shifts, y_shifts) = (merge_all(&mut self.x, &x_parts), merge_all(&mut self.y, &y_parts));
            self.add_products((&x_parts, &x_shifts), (&y_parts, &y_shifts));
        }
        Ok(())
    }

    /// Adds the products of parts, given their shifts by [`merge_moments`].
    fn add_products(&mut self, x: (&[Centred], &[Vec<f64>]), y: (&[Centred], &[Vec<f64>])) {
        self.products.tiles.par_iter_mut().for_each_init(Vec::new, |product, tile| {
            product.resize(tile.values.len(), 0.0_f32);
            for ((x, x_shifts), (y, y_shifts)) in x.0.iter().zip(x.1).zip(y.0.iter().zip(y.1)) {
                transposed_product(x.rows, x.columns(tile.rows), y.columns(tile.columns), product);
                let (scales, shifts) = ((&*x.scales, &*y.scales), (&**x_shifts, &**y_shifts));
                pulp::Arch::new().dispatch(Accumulate { tile, product, scales, shifts });
            }
        });
    }

    /// Adds the co-moments of another, of the tokens after those of this one.
    ///
    /// # Errors
    /// [`Error::Shape`] if its numbers of neurons differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let (rows, columns) = (self.products.rows(), self.products.columns());
        let of_other = (other.products.rows(), other.products.columns(), other.products.symmetric());
        if of_other != (rows, columns, self.products.symmetric()) {
            return Err(Error::Shape { expected: rows * columns, found: of_other.0 * of_other.1 });
        }
        let x = merge_moments(&mut self.x, &other.x);
        let y = merge_moments(&mut self.y, &other.y);
        let y = if self.products.symmetric() { &x } else { &y };
        self.products.tiles.par_iter_mut().zip(&other.products.tiles).for_each(|(tile, other)| {
            let (x, y) = (of(&x, tile.rows), of(y, tile.columns));
            for ((values, others), x_shift) in
                tile.values.chunks_exact_mut(tile.columns.1).zip(other.values.chunks_exact(tile.columns.1)).zip(x)
            {
                for ((value, other), y_shift) in values.iter_mut().zip(others).zip(y) {
                    *value += other + x_shift * y_shift;
                }
            }
        });
        Ok(())
    }

    /// Pearson's correlation of neuron `i` with neuron `j`, which is of the other set if there are two; `None` if one of
    /// them is constant or has a value that is not finite.
    ///
    /// # Panics
    /// Panics if there is no such neuron.
    pub fn correlation(&self, i: usize, j: usize) -> Option<f64> {
        let product = self.products.get(i, j);
        let (x, y) = (self.x[i].m2, if self.products.symmetric() { self.x[j].m2 } else { self.y[j].m2 });
        if !(x > 0.0 && y > 0.0) {
            return None;
        }
        if self.products.symmetric() && i == j {
            return (x.is_finite() && product.is_finite()).then_some(1.0);
        }
        let correlation = product / (x.sqrt() * y.sqrt());
        correlation.is_finite().then(|| correlation.clamp(-1.0, 1.0))
    }

    /// The `k` neurons that correlate most with neuron `i`, strongest first and in the order of their numbers where they
    /// are equal; itself and constant neurons are left out.
    ///
    /// # Panics
    /// Panics if there is no neuron `i`.
    pub fn strongest(&self, i: usize, k: usize, sign: Sign) -> Vec<Correlate> {
        assert!(i < self.products.rows(), "no neuron {i}");
        let others = (0..self.products.columns()).filter(|j| !(self.products.symmetric() && *j == i));
        let mut correlates: Vec<Correlate> =
            others.filter_map(|j| Some(Correlate { neuron: j as u32, correlation: self.correlation(i, j)? })).collect();
        let rank = |c: &Correlate| match sign {
            Sign::Positive => c.correlation,
            Sign::Negative => -c.correlation,
            Sign::Either => c.correlation.abs(),
        };
        let order = |a: &Correlate, b: &Correlate| {
            rank(b).partial_cmp(&rank(a)).unwrap_or(Ordering::Equal).then(a.neuron.cmp(&b.neuron))
        };
        if k < correlates.len() {
            correlates.select_nth_unstable_by(k, order);
            correlates.truncate(k);
        }
        correlates.sort_unstable_by(order);
        correlates
    }
}

/// Greatest number of columns of a tile of products, for all of which the left operand is packed once.
const WIDTH: usize = 1024;

/// Number of parts that are centred before they are multiplied, for several threads to share.
const PARTS: usize = 4;

/// Number of rows of a matrix.
fn rows_of(x: &[f32], width: usize) -> Result<usize> {
    match x.len().checked_rem(width) {
        Some(0) => Ok(x.len() / width),
        None if x.is_empty() => Ok(0),
        _ => Err(Error::Shape { expected: width, found: x.len() }),
    }
}

/// Groups of rows, each of which is centred in memory at once.
fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(PARTS * ROWS).map(move |first| first..rows.min(first + PARTS * ROWS))
}

/// Centres rows in parts of [`ROWS`], in reused memory.
fn centre(x: &[f32], width: usize, rows: Range<usize>, parts: &mut Vec<Centred>) {
    parts.resize_with(rows.len().div_ceil(ROWS), Centred::default);
    parts.par_iter_mut().enumerate().for_each(|(i, part)| {
        let first = rows.start + i * ROWS;
        let last = rows.end.min(first + ROWS);
        part.set(&x[first * width..last * width], last - first, width);
    });
}

/// Adds the moments of each part in order; returns the shifts of [`merge_moments`].
fn merge_all(moments: &mut [Moments], parts: &[Centred]) -> Vec<Vec<f64>> {
    parts.iter().map(|part| merge_moments(moments, &part.moments)).collect()
}

/// Adds moments, and returns the shift of each neuron, `√(a·b / (a + b))·Δmean` with `a` and `b` tokens: the product of
/// two shifts is the addend to the co-moment for the distance of the means.
fn merge_moments(moments: &mut [Moments], others: &[Moments]) -> Vec<f64> {
    let merge = |(moments, other): (&mut Moments, &Moments)| {
        let (a, b) = (moments.count as f64, other.count as f64);
        let shift = if a > 0.0 && b > 0.0 { (other.mean - moments.mean) * (a * b / (a + b)).sqrt() } else { 0.0 };
        moments.merge(other);
        shift
    };
    moments.iter_mut().zip(others).map(merge).collect()
}

/// Slice of a range of neurons.
fn of<T>(all: &[T], (first, count): (usize, usize)) -> &[T] {
    &all[first..first + count]
}

/// Computes `tile += scale_x·scale_y·product + shift_x·shift_y`.
struct Accumulate<'a> {
    tile: &'a mut Tile<f64>,
    product: &'a [f32],
    scales: (&'a [f64], &'a [f64]),
    shifts: (&'a [f64], &'a [f64]),
}

impl pulp::WithSimd for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Tile { rows, columns, values } = self.tile;
        let width = columns.1;
        let (y_scales, y_shifts) = (of(self.scales.1, *columns), of(self.shifts.1, *columns));
        let (x_scales, x_shifts) = (of(self.scales.0, *rows), of(self.shifts.0, *rows));
        for (i, (values, products)) in values.chunks_exact_mut(width).zip(self.product.chunks_exact(width)).enumerate()
        {
            let (x_scale, x_shift) = (x_scales[i], x_shifts[i]);
            for (((value, product), y_scale), y_shift) in values.iter_mut().zip(products).zip(y_scales).zip(y_shifts) {
                *value += f64::from(*product) * (x_scale * y_scale) + x_shift * y_shift;
            }
        }
    }
}
