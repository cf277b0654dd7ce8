//! Tiled matrix over pairs of neurons, whose tiles are processed in parallel.

/// Greatest number of rows of a tile.
const ROWS: usize = 128;

/// Matrix in tiles of at most [`ROWS`] rows and `WIDTH` columns; in a symmetric matrix, rows of tiles begin at the
/// diagonal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tiles<T, const WIDTH: usize> {
    rows: usize,
    columns: usize,
    symmetric: bool,
    pub tiles: Vec<Tile<T>>,
    /// Index of the first tile of each row of tiles.
    firsts: Vec<usize>,
}

/// Tile: the values of a range of rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tile<T> {
    /// First row and number of rows.
    pub rows: (usize, usize),
    /// First column and number of columns.
    pub columns: (usize, usize),
    /// Values, `[rows, columns]`.
    pub values: Vec<T>,
}

impl<T: Copy + Default, const WIDTH: usize> Tiles<T, WIDTH> {
    pub fn new(rows: usize, columns: usize, symmetric: bool) -> Self {
        let (mut tiles, mut firsts) = (Vec::new(), Vec::new());
        for row in (0..rows).step_by(ROWS) {
            firsts.push(tiles.len());
            for column in (if symmetric { row } else { 0 }..columns).step_by(WIDTH) {
                let (height, width) = (ROWS.min(rows - row), WIDTH.min(columns - column));
                let values = vec![T::default(); height * width];
                tiles.push(Tile { rows: (row, height), columns: (column, width), values });
            }
        }
        Self { rows, columns, symmetric, tiles, firsts }
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

    /// Value of a pair. Panics if there is no such pair.
    pub fn get(&self, row: usize, column: usize) -> T {
        assert!(row < self.rows && column < self.columns, "no pair {row}, {column}");
        let (row, column) = if self.symmetric && row > column { (column, row) } else { (row, column) };
        let of_row = row / ROWS;
        let first = if self.symmetric { of_row * ROWS } else { 0 };
        let tile = &self.tiles[self.firsts[of_row] + (column - first) / WIDTH];
        tile.values[(row - tile.rows.0) * tile.columns.1 + column - tile.columns.0]
    }
}

impl<const WIDTH: usize> Tiles<(), WIDTH> {
    /// Number of stored values.
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
            let mut tiles = Tiles::<usize, 200>::new(rows, columns, symmetric);
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
                Tiles::<(), 200>::size(rows, columns, symmetric),
                tiles.tiles.iter().map(|t| t.values.len()).sum::<usize>()
            );
        }
    }
}
