//! Completion of statements and commands.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;

use crate::shell::commands::COMMANDS;
use crate::shell::layout::Mode;

/// Names in the catalog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// Columns of each relation, by schema and name.
    pub(crate) relations: BTreeMap<(String, String), Vec<String>>,
    pub(crate) functions: BTreeSet<String>,
    pub(crate) models: Vec<String>,
}

/// A kind of word that may come next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Suggestions {
    /// The name of a file.
    Files,
    /// Words.
    Words {
        /// Bytes before the cursor that the words replace.
        length: usize,
        words: Vec<String>,
    },
}

/// Schemas that nobody types often.
const SYSTEM: [&str; 2] = ["pg_catalog", "information_schema"];

const KEYWORDS: &str = "ABORT ADD ALL ALTER ANALYZE AND ANY ARRAY AS ASC BEGIN BETWEEN BY CASE CAST COMMENT COMMIT COPY \
    CREATE CROSS CURRENT DEFAULT DELETE DESC DISTINCT DROP ELSE END ESCAPE EXCEPT EXECUTE EXISTS EXPLAIN EXTERNAL FALSE \
    FETCH FILTER FIRST FOLLOWING FROM FULL FUNCTION GROUP HAVING ILIKE IN INNER INSERT INTERSECT INTO IS JOIN LAST \
    LATERAL LEFT LIKE LIMIT LOCATION MODEL NATURAL NOT NULL NULLS OFFSET ON OPTIONS OR ORDER OUTER OVER PARTITION \
    PRECEDING PREPARE RANGE RECURSIVE RELEASE REPLACE RESET RIGHT ROLLBACK ROW ROWS SAVEPOINT SCHEMA SELECT SET SHOW \
    SIMILAR STORED TABLE TEMPORARY THEN TO TRUE UNBOUNDED UNION UNIQUE UPDATE USING VALUES VERBOSE VIEW WHEN WHERE \
    WINDOW WITH";

/// Keywords after which the name of a relation comes.
const BEFORE_RELATIONS: [&str; 7] = ["from", "join", "into", "update", "table", "view", "copy"];

/// Keywords that end a list of relations.
const AFTER_RELATIONS: [&str; 10] =
    ["where", "on", "group", "order", "having", "limit", "set", "values", "select", "using"];

/// Returns what may follow `text`, a statement or a command up to the cursor; `after` is what follows already.
pub(crate) fn suggest(text: &str, after: &str, names: &Names) -> Suggestions {
    let line = text.rsplit('\n').next().unwrap_or_default().trim_start();
    if let Some(command) = line.strip_prefix('\\') {
        return suggest_for_command(command, names);
    }
    let start = text
        .rfind(|letter: char| !is_in_name(letter))
        .map_or(0, |index| index + text[index..].chars().next().map_or(1, char::len_utf8));
    let (before, word) = text.split_at(start);
    if in_string(text) {
        return suggest_in_string(before, word, names);
    }
    let tokens = tokens(before);
    let aliases = relations_in(&format!("{before} {after}"), names);
    if let Some((qualifier, _)) = word.rsplit_once('.') {
        return matching(word, qualified(qualifier, &aliases, names));
    }
    let is_clause =
        |token: &&String| BEFORE_RELATIONS.contains(&token.as_str()) || AFTER_RELATIONS.contains(&token.as_str());
    let clause = tokens.iter().rev().find(is_clause).map(String::as_str).unwrap_or_default();
    let last = tokens.last().map(String::as_str).unwrap_or_default();
    if BEFORE_RELATIONS.contains(&last) || last == "," && BEFORE_RELATIONS.contains(&clause) {
        return matching(word, relation_names(word, names));
    }
    let mut words: Vec<String> = Vec::new();
    if aliases.is_empty() {
        words.extend(
            names.relations.iter().filter(|(key, _)| is_shown(&key.0, word)).flat_map(|(_, names)| names.clone()),
        );
    } else {
        words.extend(aliases.values().filter_map(|key| names.relations.get(key)).flatten().cloned());
        words.extend(aliases.keys().cloned());
    }
    words.extend(names.functions.iter().map(|name| format!("{}(", quoted(name))));
    let mut found = matching(word, words);
    if let Suggestions::Words { words, .. } = &mut found {
        let more: Vec<_> = keywords(word).filter(|keyword| !words.contains(keyword)).collect();
        words.extend(more);
    }
    found
}

/// Returns the keywords that begin with a word, in its case.
fn keywords(word: &str) -> impl Iterator<Item = String> {
    let upper = word.to_ascii_uppercase();
    let is_lower = word.starts_with(|letter: char| letter.is_ascii_lowercase());
    let found = KEYWORDS.split_ascii_whitespace().filter(move |keyword| keyword.starts_with(&upper));
    found.map(move |keyword| if is_lower { keyword.to_ascii_lowercase() } else { keyword.to_string() })
}

fn suggest_for_command(command: &str, names: &Names) -> Suggestions {
    let Some((name, arguments)) = command.split_once(char::is_whitespace) else {
        let all = COMMANDS.iter().map(|(usage, _)| usage.split(' ').next().unwrap_or_default().to_string());
        return matching(&format!("\\{command}"), all.collect());
    };
    let word = arguments.rsplit(char::is_whitespace).next().unwrap_or_default();
    match name.trim_end_matches('+') {
        "d" | "dt" | "dv" => matching(word, relation_names(word, names)),
        "df" => matching(word, names.functions.iter().map(|name| quoted(name)).collect()),
        "i" | "o" => Suggestions::Files,
        "mode" => {
            let modes = Mode::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            matching(word, modes.map(|mode| mode.get_name().to_string()).collect())
        }
        "timing" | "x" => matching(word, vec!["on".into(), "off".into()]),
        "pset" => matching(word, ["null", "pager", "expanded", "format"].map(str::to_owned).into()),
        _ => Suggestions::Words { length: word.len(), words: Vec::new() },
    }
}

/// Suggests models in a string: `model => '`, `tokens('`.
fn suggest_in_string(before: &str, word: &str, names: &Names) -> Suggestions {
    let start = before.strip_suffix('\'').map(str::trim_end);
    let takes_model = start.is_some_and(|start| start.ends_with(['(', '=', '>']));
    let words = if takes_model { names.models.clone() } else { Vec::new() };
    matching(word, words.into_iter().map(|model| format!("{model}'")).collect())
}

/// Returns the words that begin with `word`, which they replace.
fn matching(word: &str, words: Vec<String>) -> Suggestions {
    let lower = word.to_lowercase();
    let fits = |name: &String| name.starts_with(word) || !word.contains('"') && name.to_lowercase().starts_with(&lower);
    let words: BTreeSet<_> = words.into_iter().filter(fits).collect();
    Suggestions::Words { length: word.len(), words: words.into_iter().collect() }
}

/// Returns names of relations and schemas that a FROM clause may have.
fn relation_names(word: &str, names: &Names) -> Vec<String> {
    if let Some((schema, _)) = word.rsplit_once('.') {
        return qualified(schema, &BTreeMap::new(), names);
    }
    let mut found = Vec::new();
    for (schema, name) in names.relations.keys().filter(|(schema, _)| is_shown(schema, word)) {
        found.push(if schema == "public" { quoted(name) } else { format!("{}.", quoted(schema)) });
    }
    found
}

/// Returns names after `qualifier.`: columns of a relation, or relations of a schema.
fn qualified(qualifier: &str, aliases: &BTreeMap<String, (String, String)>, names: &Names) -> Vec<String> {
    let bare = unquoted(qualifier);
    let columns = aliases.get(&bare).and_then(|key| names.relations.get(key)).into_iter().flatten();
    let columns = columns.map(|column| quoted(column));
    let relations = names.relations.keys().filter(|(schema, _)| *schema == bare).map(|(_, name)| quoted(name));
    columns.chain(relations).map(|name| format!("{qualifier}.{name}")).collect()
}

/// Returns the relations that a statement names, by alias or name.
fn relations_in(text: &str, names: &Names) -> BTreeMap<String, (String, String)> {
    let tokens = tokens(text);
    let mut found = BTreeMap::new();
    for (index, token) in tokens.iter().enumerate() {
        let (schema, name) = match token.rsplit_once('.') {
            Some((schema, name)) => (unquoted(schema), unquoted(name)),
            None => ("public".to_string(), unquoted(token)),
        };
        let key = (schema, name);
        let follows = index
            .checked_sub(1)
            .and_then(|before| tokens.get(before))
            .is_some_and(|before| BEFORE_RELATIONS.contains(&before.as_str()) || before == ",");
        if !follows || !names.relations.contains_key(&key) {
            continue;
        }
        let mut next = tokens[index + 1..].iter();
        let alias = match next.next().map(String::as_str) {
            Some("as") => next.next().map(String::as_str),
            other => other,
        };
        let is_alias = |alias: &&str| {
            alias.chars().all(is_in_name)
                && !KEYWORDS.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(alias))
        };
        found.insert(alias.filter(is_alias).map_or_else(|| key.1.clone(), unquoted), key);
    }
    found
}

/// Returns words and signs; words that are not in quotes are in lower case.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            letter if is_in_name(letter) => rest.find(|letter: char| !is_in_name(letter)).unwrap_or(rest.len()),
            letter => letter.len_utf8(),
        };
        let token = &rest[..length];
        if !letter.is_whitespace() {
            tokens.push(if token.contains('"') { token.into() } else { token.to_lowercase() });
        }
        rest = &rest[length..];
    }
    tokens
}

fn in_string(text: &str) -> bool {
    text.matches('\'').count() % 2 == 1
}

/// Returns true for characters of names, with their quotes and the dots between them.
fn is_in_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$' | '.' | '"')
}

/// Returns true if relations of the schema are offered before its name is typed.
fn is_shown(schema: &str, word: &str) -> bool {
    !SYSTEM.contains(&schema) || !word.is_empty() && schema.starts_with(word)
}

/// Returns a name as it is typed.
fn quoted(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let is_bare = name.chars().all(is_plain) && !name.starts_with(|letter: char| letter.is_ascii_digit());
    if is_bare && !name.is_empty() { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let relation = |schema: &str, name: &str, columns: &[&str]| {
            ((schema.to_string(), name.to_string()), columns.iter().map(|column| (*column).to_string()).collect())
        };
        Names {
            relations: [
                relation("public", "models", &["model", "layers"]),
                relation("public", "Odd", &["a"]),
                relation("toy", "neurons", &["layer", "neuron", "kurtosis"]),
                relation("toy", "graphs", &["layer", "graph"]),
                relation("pg_catalog", "pg_class", &["oid", "relname"]),
            ]
            .into(),
            functions: ["tokens", "tokenize", "count"].map(str::to_owned).into(),
            models: vec!["toy".into()],
        }
    }

    fn words(text: &str) -> Vec<String> {
        words_before(text, "")
    }

    fn words_before(text: &str, after: &str) -> Vec<String> {
        match suggest(text, after, &names()) {
            Suggestions::Words { words, .. } => words,
            Suggestions::Files => vec!["files".into()],
        }
    }

    #[test]
    fn relations_after_from() {
        assert_eq!(words("select * from m"), ["models"]);
        assert_eq!(words("SELECT * FROM "), ["\"Odd\"", "models", "toy."]);
        assert_eq!(words("select * from toy.n"), ["toy.neurons"]);
        assert_eq!(words("select * from models, toy.g"), ["toy.graphs"]);
        assert_eq!(words("select * from pg"), ["pg_catalog."]);
        assert_eq!(words("insert into TOY.gr"), ["TOY.graphs"]);
        assert_eq!(words("\\d to"), ["toy."]);
    }

    #[test]
    fn columns_of_the_relations_at_hand() {
        assert_eq!(words("select * from toy.neurons where ku"), ["kurtosis"]);
        assert_eq!(words("select * from toy.neurons n join toy.graphs as g on n.l"), ["n.layer"]);
        assert_eq!(words("select * from toy.neurons n join toy.graphs as g on g."), ["g.graph", "g.layer"]);
        assert_eq!(words("select mod"), ["model"]);
        assert_eq!(words_before("select ku", " from toy.neurons;"), ["kurtosis"]);
        assert_eq!(words_before("select ku", " from models;"), [""; 0]);
    }

    #[test]
    fn keywords_and_functions() {
        assert_eq!(words("sele"), ["select"]);
        assert_eq!(words("SELE"), ["SELECT"]);
        assert_eq!(words("select toke"), ["tokenize(", "tokens("]);
        assert_eq!(words("select * from models wher"), ["where"]);
        assert_eq!(words("select tokens('t"), ["toy'"]);
        assert_eq!(words("select * from analyze(model => '"), ["toy'"]);
        assert_eq!(words("select 'sel"), [""; 0]);
    }

    #[test]
    fn commands() {
        assert_eq!(words("\\tim"), ["\\timing"]);
        assert_eq!(words("\\df tokens"), ["tokens"]);
        assert_eq!(words("\\mode js"), ["json", "jsonl"]);
        assert_eq!(words("\\i a"), ["files"]);
        assert_eq!(words("\\x o"), ["off", "on"]);
    }
}
