//! Places where a text may be cut: its tokens are those of the part before, then those of the part after.
//!
//! A text is cut before a character such as a space or a full stop, if a letter or digit stands before that. This is right
//! if no step of the tokenizer reads across the cut:
//!
//! | step | why it does not |
//! |---|---|
//! | added tokens | none has the two characters side by side, and none depends on its neighbours there (`single_word`, `rstrip`) |
//! | normalizer | none, or NFC, which joins neither character to others across the cut; or spaces become `▁` |
//! | pre-tokenizer | no match of its patterns has the two characters side by side, or looks across; so a match that is tried before the cut ends before it, with or without the rest of the text, and a search goes on after it as in a new text |
//! | model | the pre-tokenizer ends a word at the cut: the letter or digit is always in a match; or, if it makes no words, it is BPE of which no token has `▁` after a letter, a digit or what stands for one, so that nothing merges across |
//!
//! Texts of any other tokenizer are not cut.

use std::ops::RangeInclusive;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// Letters and digits after which a text may be cut. NFC changes none of them and joins none to what is before it.
const WORDS: [(char, char); 15] = [
    ('0', '9'),
    ('A', 'Z'),
    ('a', 'z'),
    // Greek
    ('\u{391}', '\u{3A1}'),
    ('\u{3A3}', '\u{3C9}'),
    // Cyrillic
    ('\u{410}', '\u{44F}'),
    // Hebrew
    ('\u{5D0}', '\u{5EA}'),
    // Arabic
    ('\u{627}', '\u{63A}'),
    ('\u{641}', '\u{64A}'),
    // Devanagari
    ('\u{915}', '\u{939}'),
    // Thai
    ('\u{E01}', '\u{E2E}'),
    // Hiragana, Katakana
    ('\u{3041}', '\u{3093}'),
    ('\u{30A1}', '\u{30F6}'),
    // Han
    ('\u{4E00}', '\u{9FA5}'),
    // Hangul
    ('\u{AC00}', '\u{D7A3}'),
];

/// Characters before which a text may be cut. NFC changes none of them, whatever follows (`<`, `=` and `>` it would), and
/// joins none to what is before it.
const AFTER_WORDS: &str = " \n!\"#$%&()*+,-./:;?@[\\]^_`{|}~，。、";

/// Character that stands for a space in tokens of SentencePiece.
const MARK: char = '▁';

/// Pattern of [`PreTokenizerWrapper::ByteLevel`].
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The only look-around that patterns may have: nothing but whitespace follows.
const LOOK_AHEAD: &str = r"(?!\S)";

/// Name of a group in its place.
const AHEAD: &str = "neuroql_looks_ahead";

/// Returns true for a letter or digit after which a text may be cut.
fn is_word(character: char) -> bool {
    WORDS.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// Places where texts of a tokenizer may be cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Characters before which a text may be cut, if a letter or digit is before them.
    before: Vec<char>,
    /// True if the space at a cut belongs to neither part: the tokenizer puts one before each text.
    drops_space: bool,
}

impl Cuts {
    /// Returns those of a tokenizer, none if they are not known to be right.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let (mut normalizers, mut steps) = (Vec::new(), Vec::new());
        if let Some(normalizer) = tokenizer.get_normalizer() {
            list_normalizers(normalizer, &mut normalizers);
        }
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            list_steps(pre_tokenizer, &mut steps);
        }
        let is_nfc = |normalizer: &&NormalizerWrapper| matches!(normalizer, NormalizerWrapper::NFC(_));
        let marking = Replace::new(" ", MARK.to_string()).ok();
        let makes_no_words = |replace: &Replace, steps: &[&PreTokenizerWrapper]| {
            marking.as_ref() == Some(replace)
                && steps.iter().all(|step| splits_at_spaces(step))
                && is_bpe_of_words(tokenizer, MARK)
        };
        let mut cuts = match (normalizers.as_slice(), steps.as_slice()) {
            (list, [PreTokenizerWrapper::Metaspace(step)]) if list.iter().all(is_nfc) => {
                match step.split || is_bpe_of_words(tokenizer, step.get_replacement()) {
                    true => Self { before: vec![' '], drops_space: false },
                    false => Self::default(),
                }
            }
            (list, steps) if list.iter().all(is_nfc) => {
                let words = ClassUnicode::new(WORDS.map(|(first, last)| ClassUnicodeRange::new(first, last)));
                let before = AFTER_WORDS.chars().filter(|next| ends_word(steps, *next, &words)).collect();
                Self { before, drops_space: false }
            }
            ([NormalizerWrapper::Replace(replace)], steps) if makes_no_words(replace, steps) => {
                Self { before: vec![' '], drops_space: false }
            }
            ([NormalizerWrapper::Prepend(prefix), NormalizerWrapper::Replace(replace)], steps)
                if prefix.prepend.chars().eq([MARK]) && makes_no_words(replace, steps) =>
            {
                Self { before: vec![' '], drops_space: true }
            }
            _ => Self::default(),
        };
        cuts.keep_added_tokens(tokenizer);
        cuts
    }

    /// Leaves out the places at which the tokenizer may find an added token, or find it in one part and not in the whole.
    fn keep_added_tokens(&mut self, tokenizer: &Tokenizer) {
        let vocabulary = tokenizer.get_added_vocabulary();
        for (id, token) in vocabulary.get_added_tokens_decoder() {
            let normalized = vocabulary.simple_id_to_token(*id).unwrap_or_default();
            let texts = [token.content.as_str(), normalized.as_str()];
            let reads_on = token.single_word || (token.rstrip && texts.iter().any(|text| text.ends_with(is_word)));
            // A space is put before each text between such tokens, not before the tokens.
            let (first, last) = (token.content.chars().next(), token.content.chars().next_back());
            let is_beside = first == Some(' ') || [first, last].into_iter().flatten().any(is_word);
            if reads_on || (self.drops_space && !token.normalized && is_beside) {
                self.before.clear();
            }
            for (last, next) in texts.iter().flat_map(|text| text.chars().zip(text.chars().skip(1))) {
                if is_word(last) {
                    self.before.retain(|before| *before != next && !(*before == ' ' && next == MARK));
                }
            }
        }
    }

    /// Returns the first part of a text, of so many bytes, and the rest, which can be cut again; all of the text and nothing if
    /// it is shorter or has no place to cut there.
    pub fn first<'a>(&self, text: &'a str, bytes: RangeInclusive<usize>) -> (&'a str, &'a str) {
        if self.before.is_empty() {
            return (text, "");
        }
        let start = text.floor_char_boundary(*bytes.start());
        let mut last = text[..start].chars().next_back();
        for (at, next) in text[start..].char_indices() {
            let cut = start + at;
            if cut > *bytes.end() {
                break;
            }
            if last.is_some_and(is_word) && self.before.contains(&next) {
                let rest = if self.drops_space { &text[cut + next.len_utf8()..] } else { &text[cut..] };
                if !self.drops_space || rest.starts_with(is_word) {
                    return (&text[..cut], rest);
                }
            }
            last = Some(next);
        }
        (text, "")
    }
}

fn list_normalizers<'a>(normalizer: &'a NormalizerWrapper, list: &mut Vec<&'a NormalizerWrapper>) {
    match normalizer {
        NormalizerWrapper::Sequence(sequence) => {
            let parts: &[NormalizerWrapper] = sequence.as_ref();
            parts.iter().for_each(|part| list_normalizers(part, list));
        }
        normalizer => list.push(normalizer),
    }
}

fn list_steps<'a>(pre_tokenizer: &'a PreTokenizerWrapper, list: &mut Vec<&'a PreTokenizerWrapper>) {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => {
            let parts: &[PreTokenizerWrapper] = sequence.as_ref();
            parts.iter().for_each(|part| list_steps(part, list));
        }
        step => list.push(step),
    }
}

/// Returns true for a pre-tokenizer that splits at spaces and nothing else.
fn splits_at_spaces(step: &PreTokenizerWrapper) -> bool {
    match step {
        PreTokenizerWrapper::Split(Split { pattern: SplitPattern::String(text), invert: false, .. }) => text == " ",
        _ => false,
    }
}

/// Returns true for BPE that merges no letter or digit with a mark after it, whatever its word.
fn is_bpe_of_words(tokenizer: &Tokenizer, mark: char) -> bool {
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return false };
    // What takes a word as a whole, or marks its ends, depends on the text being one word.
    let by_merges = bpe.dropout.is_none()
        && !bpe.ignore_merges
        && bpe.continuing_subword_prefix.is_none()
        && bpe.end_of_word_suffix.is_none();
    if !by_merges {
        return false;
    }
    let vocabulary = bpe.get_vocab();
    // For a letter that is no token its bytes stand, or the unknown token.
    let ends_so = |text: &str| {
        text.ends_with(is_word)
            || text.contains("<0x")
            || bpe.unk_token.as_ref().is_some_and(|unknown| text.ends_with(unknown))
    };
    let is_apart = |token: &String| token.match_indices(mark).all(|(at, _)| !ends_so(&token[..at]));
    vocabulary.contains_key(&mark.to_string()) && vocabulary.keys().all(is_apart)
}

/// Returns true if steps end a word between any letter or digit of `words` and `next`, and split what is before it and what
/// follows as they split each alone.
fn ends_word(steps: &[&PreTokenizerWrapper], next: char, words: &ClassUnicode) -> bool {
    // It may put a mark before the first word of a text only.
    if steps.iter().any(|step| matches!(step, PreTokenizerWrapper::Metaspace(_))) {
        return false;
    }
    // Those that may be outside of all matches, so that what follows may be in the same word.
    let mut open = words.clone();
    for step in steps {
        let pattern = match step {
            // These look at one character at a time.
            PreTokenizerWrapper::Digits(_) => continue,
            PreTokenizerWrapper::Punctuation(_) if next.is_whitespace() => continue,
            PreTokenizerWrapper::ByteLevel(bytes) if bytes.use_regex && (next == ' ' || !bytes.add_prefix_space) => {
                GPT2
            }
            PreTokenizerWrapper::Split(Split {
                pattern: SplitPattern::Regex(pattern),
                behavior: SplitDelimiterBehavior::Isolated | SplitDelimiterBehavior::Removed,
                ..
            }) => pattern.as_str(),
            _ => return false,
        };
        match Matches::of(pattern, next, words) {
            Some(matches) if !matches.empty => open.difference(&matches.single),
            _ => return false,
        }
        if open.ranges().is_empty() {
            return true;
        }
    }
    false
}

/// Properties of the matches of a pattern that decide whether a text may be cut before one character.
struct Matches {
    /// One may be empty.
    empty: bool,
    /// The pattern looks ahead.
    looks: bool,
    /// One may begin with the character, or look at it.
    begins: bool,
    /// Letters and digits with which one may end.
    ends: ClassUnicode,
    /// Characters that are matches by themselves, so that a search leaves none of them outside of matches.
    single: ClassUnicode,
}

impl Matches {
    /// Returns what matches of a pattern may be; `None` if one may hold a letter or digit with `next` after it, or if it
    /// depends on what is around it in a way that is not known.
    fn of(pattern: &str, next: char, words: &ClassUnicode) -> Option<Self> {
        if pattern.contains(AHEAD) {
            return None;
        }
        let group = format!("(?P<{AHEAD}>)");
        let matches = Self::of_hir(&regex_syntax::parse(&pattern.replace(LOOK_AHEAD, &group)).ok()?, next, words)?;
        // Brackets make characters of it.
        (usize::from(matches.looks) == pattern.matches(LOOK_AHEAD).count()).then_some(matches)
    }

    fn of_hir(hir: &Hir, next: char, words: &ClassUnicode) -> Option<Self> {
        let of = |hir: &Hir| Self::of_hir(hir, next, words);
        match hir.kind() {
            HirKind::Empty => Some(Self::nothing()),
            HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => None,
            HirKind::Class(Class::Unicode(class)) => Some(Self::of_class(class, next, words)),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                let classes = text.chars().map(|c| ClassUnicode::new([ClassUnicodeRange::new(c, c)]));
                classes.map(|class| Self::of_class(&class, next, words)).try_fold(Self::nothing(), Self::then)
            }
            HirKind::Repetition(repetition) => {
                let once = of(&repetition.sub)?;
                if once.begins && once.ends_with_word() && repetition.max != Some(1) {
                    return None;
                }
                let empty = once.empty || repetition.min == 0;
                let single = if repetition.min <= 1 { once.single } else { ClassUnicode::empty() };
                Some(Self { empty, looks: once.looks, begins: once.begins, ends: once.ends, single })
            }
            HirKind::Capture(capture) => match capture.name.as_deref() {
                Some(AHEAD) => Some(Self { looks: true, begins: true, ..Self::nothing() }),
                _ => of(&capture.sub),
            },
            HirKind::Concat(parts) => parts.iter().try_fold(Self::nothing(), |before, part| before.then(of(part)?)),
            HirKind::Alternation(parts) => parts.iter().map(of).reduce(|one, other| Some(one?.or(&other?))).flatten(),
        }
    }

    fn nothing() -> Self {
        let none = ClassUnicode::empty;
        Self { empty: true, looks: false, begins: false, ends: none(), single: none() }
    }

    fn of_class(class: &ClassUnicode, next: char, words: &ClassUnicode) -> Self {
        let mut ends = class.clone();
        ends.intersect(words);
        Self {
            empty: false,
            looks: false,
            begins: class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&next)),
            ends,
            single: class.clone(),
        }
    }

    fn ends_with_word(&self) -> bool {
        !self.ends.ranges().is_empty()
    }

    /// Matches of this pattern, each with one of another after it; `None` if they hold a letter or digit with the character
    /// after it.
    fn then(self, after: Self) -> Option<Self> {
        if after.begins && self.ends_with_word() {
            return None;
        }
        let mut single = ClassUnicode::empty();
        if self.empty && !self.looks {
            single.union(&after.single);
            // A possessive repetition (`?+`) does not give back what it can take.
            single.difference(&self.ends);
        }
        let mut ends = after.ends;
        if after.empty {
            ends.union(&self.ends);
            if !after.looks {
                single.union(&self.single);
            }
        }
        Some(Self {
            empty: self.empty && after.empty,
            looks: self.looks || after.looks,
            begins: self.begins || (self.empty && after.begins),
            ends,
            single,
        })
    }

    /// Matches of one of two patterns.
    fn or(mut self, other: &Self) -> Self {
        self.empty |= other.empty;
        self.looks |= other.looks;
        self.begins |= other.begins;
        self.ends.union(&other.ends);
        self.single.union(&other.single);
        self
    }
}
