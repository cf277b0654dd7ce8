//! Sequences packed into one forward pass, without padding.

/// Examples to run together: their tokens lie end to end, and each sees only itself.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bos: Option<u32>,
    pub(crate) tokens: Vec<u32>,
    /// Position of each token in its sequence, BOS included.
    pub(crate) positions: Vec<u32>,
    /// Sequence `s` owns tokens `offsets[s]..offsets[s + 1]`.
    pub(crate) offsets: Vec<usize>,
    /// Indices of the tokens whose activations are wanted, ascending.
    pub(crate) rows: Vec<u32>,
}

impl Batch {
    /// A batch of whole examples; `bos` is put before each and gives no row of its own.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a [u32]>, bos: Option<u32>) -> Self {
        let mut batch = Self { bos, ..Self::default() };
        examples.into_iter().for_each(|example| batch.push(example));
        batch
    }

    /// Adds an example; each of its tokens gives a row.
    pub fn push(&mut self, tokens: &[u32]) {
        let first = self.append(tokens);
        self.rows.extend(first..first + tokens.len() as u32);
    }

    /// Adds an example of which only some positions give a row (ascending, 0-based, BOS not counted).
    ///
    /// Tokens after the last position are not run: attention is causal, so nothing depends on them.
    pub fn push_positions(&mut self, tokens: &[u32], positions: &[u32]) {
        let Some(&last) = positions.last() else { return };
        let first = self.append(&tokens[..last as usize + 1]);
        self.rows.extend(positions.iter().map(|p| first + p));
    }

    /// Adds an example of which only the last token gives a row: BOS if it has no tokens, nothing if there is no BOS.
    pub fn push_last(&mut self, tokens: &[u32]) {
        if self.bos.is_some() || !tokens.is_empty() {
            self.append(tokens);
            self.rows.push(self.tokens.len() as u32 - 1);
        }
    }

    /// Rows of the result: one a wanted position.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Tokens that run through the network, BOS included.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Length of the longest sequence, BOS included.
    pub(crate) fn longest(&self) -> usize {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// Puts BOS and the tokens at the end; returns the index of the first token after BOS.
    fn append(&mut self, tokens: &[u32]) -> u32 {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        let start = self.tokens.len();
        self.tokens.extend(self.bos);
        let first = self.tokens.len() as u32;
        self.tokens.extend(tokens);
        self.positions.extend(0..(self.tokens.len() - start) as u32);
        self.offsets.push(self.tokens.len());
        first
    }
}
