//! A matrix over pairs of neurons, cut into tiles that threads can work on apart.

/// Neurons along each side of a tile.
pub(super) const SIDE: usize = 128;

/// A number for each pair of a row and a column; of a matrix that is symmetric the tiles below the diagonal are left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tiles<T> {
    rows: usize,
    columns: usize,
    symmetric: bool,
    pub tiles: Vec<Tile<T>>,
}

/// The pairs of some rows and some columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tile<T> {
    /// First row and number of rows.
    pub rows: (usize, usize),
    /// First column and number of columns.
    pub columns: (usize, usize),
    /// `[rows, columns]`.
    pub values: Vec<T>,
}

impl<T: Copy + Default> Tiles<T> {
    pub fn new(rows: usize, columns: usize, symmetric: bool) -> Self {
        let mut tiles = Vec::new();
        for row in (0..rows).step_by(SIDE) {
            for column in (if symmetric { row } else { 0 }..columns).step_by(SIDE) {
                let (height, width) = (SIDE.min(rows - row), SIDE.min(columns - column));
                tiles.push(Tile {
                    rows: (row, height),
                    columns: (column, width),
                    values: vec![T::default(); height * width],
                });
            }
        }
        Self { rows, columns, symmetric, tiles }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn symmetric(&self) -> bool {
        self.symmetric
    }

    /// The number of a pair. Panics if there is no such pair.
    pub fn get(&self, row: usize, column: usize) -> T {
        assert!(row < self.rows && column < self.columns, "no pair {row}, {column}");
        let (row, column) = if self.symmetric && row > column { (column, row) } else { (row, column) };
        let (i, j, across) = (row / SIDE, column / SIDE, self.columns.div_ceil(SIDE));
        // Rows of tiles above this one, each a tile shorter than the one before it where they are symmetric.
        let before = if self.symmetric { i * across - i * i.saturating_sub(1) / 2 - i } else { i * across };
        let tile = &self.tiles[before + j];
        tile.values[(row - tile.rows.0) * tile.columns.1 + column - tile.columns.0]
    }
}

impl Tiles<()> {
    /// Numbers that are kept.
    pub fn size(rows: usize, columns: usize, symmetric: bool) -> usize {
        Self::new(rows, columns, symmetric).tiles.iter().map(|tile| tile.rows.1 * tile.columns.1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_place() {
        for (rows, columns, symmetric) in
            [(700, 700, true), (256, 256, true), (1, 1, true), (300, 520, false), (0, 5, false)]
        {
            let mut tiles = Tiles::<usize>::new(rows, columns, symmetric);
            for tile in &mut tiles.tiles {
                for (i, value) in tile.values.iter_mut().enumerate() {
                    *value = (tile.rows.0 + i / tile.columns.1) * columns + tile.columns.0 + i % tile.columns.1;
                }
            }
            for row in 0..rows {
                for column in 0..columns {
                    let (a, b) = if symmetric { (row.min(column), row.max(column)) } else { (row, column) };
                    let found = tiles.get(row, column);
                    assert!(found == a * columns + b || (symmetric && found == b * columns + a));
                }
            }
            assert_eq!(
                Tiles::size(rows, columns, symmetric),
                tiles.tiles.iter().map(|t| t.values.len()).sum::<usize>()
            );
        }
    }
}
