//! Parsing of search queries.

use neuroql_graph::Error;
use neuroql_graph::search::{Form, Query, Term};
use proptest::prelude::*;

fn query(text: &str) -> Query {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn queries_are_read() {
    for (text, read) in [
        ("import", "import"),
        ("  Import ", "Import"),
        ("any:import", "import"),
        ("activating:from,important:import", "activating:from AND important:import"),
        ("Activating: from", "activating:from"),
        ("a b c", "a AND b AND c"),
        ("a, b AND c", "a AND b AND c"),
        ("a OR b c OR d", "a OR b AND c OR d"),
        ("(a OR b) c", "(a OR b) AND c"),
        ("(a (b c))", "a AND (b AND c)"),
        ("(a OR (b OR c))", "a OR (b OR c)"),
        ("((a))", "a"),
        ("NOT a b", "NOT a AND b"),
        ("NOT(a b)", "NOT (a AND b)"),
        ("NOT NOT a", "NOT NOT a"),
        ("a,NOT b", "a AND NOT b"),
        ("not and or", "not AND and AND or"),
        ("ANDROID ORDER NOTE", "ANDROID AND ORDER AND NOTE"),
        ("any:NOT important:AND", "\"NOT\" AND important:\"AND\""),
        ("imp*", "imp*"),
        ("\"imp*\"", "\"imp*\""),
        ("\"imp\"*", "imp*"),
        ("\"a:b\"*", "\"a:b\"*"),
        ("* ** any:*", "\"*\" AND \"**\" AND \"*\""),
        ("a*b a**", "\"a*b\" AND \"a*\"*"),
        ("any:( any:() any:();x", "\"(\" AND \"()\" AND \"();x\""),
        ("(any:a)", "a"),
        ("any:= = == =a a=b", "\"=\" AND \"=\" AND \"==\" AND \"=a\" AND \"a=b\""),
        ("=\" Import\"", "=\" Import\""),
        ("activating:=\"Import\"", "activating:=\"Import\""),
        ("\"say \\\"hi\\\"\"", "\"say \\\"hi\\\"\""),
        (r#""\n\t\\\u00e9\u{1f600}\ud83d\ude00\/\*""#, "\"\\n\\t\\\\é😀😀/*\""),
        ("\"\u{202e}\"", "\"\\u202e\""),
        ("\"United States\"", "\"United States\""),
        ("\" a \"", "\" a \""),
        (
            "C++ #include <p> don't $x_1 日本 👩\u{200d}🔬",
            "C++ AND #include AND <p> AND don't AND $x_1 AND 日本 AND 👩\u{200d}🔬",
        ),
        ("İ e\u{301} \u{301}", "İ AND e\u{301} AND \"\\u0301\""),
        ("a\u{3000}b\n\tc", "a AND b AND c"),
    ] {
        let parsed = query(text);
        assert_eq!(parsed.to_string(), read, "{text}");
        assert_eq!(query(read), parsed, "{text}");
    }
}

#[test]
fn mistakes_are_told() {
    let deep = "(".repeat(66) + "a";
    let nots = "NOT ".repeat(66) + "a";
    let long = "a".repeat(257);
    for (text, position, problem) in [
        ("", 1, "the query is empty"),
        (" \n", 1, "the query is empty"),
        ("\"a", 1, "the quote is not closed"),
        ("é \"a\\\"", 3, "the quote is not closed"),
        ("b \"a\\", 3, "the quote is not closed"),
        ("any:\"", 5, "the quote is not closed"),
        ("\"\"", 1, "the token is empty"),
        ("a =\"\"", 3, "the token is empty"),
        ("activating:", 12, "a token is missing after activating:"),
        ("activating:,a", 12, "a token is missing after activating:"),
        ("important: (a)", 12, "a token is missing after important:"),
        ("a :b", 3, "a role is missing before the colon"),
        ("a title:b", 3, "there is no role title; it is activating, important or any"),
        ("AND:a", 1, "there is no role AND"),
        ("any:a:b", 6, "a space, a comma or the end is missing"),
        ("a\"b\"", 2, "a space, a comma or the end is missing"),
        ("\"a\"b", 4, "a space, a comma or the end is missing"),
        ("f(x)", 2, "a space, a comma or the end is missing"),
        ("a,", 3, "a token, NOT or an opening parenthesis is missing"),
        ("a,,b", 3, "a token, NOT or an opening parenthesis is missing"),
        (",a", 1, "a token, NOT or an opening parenthesis is missing"),
        ("a AND", 6, "a token, NOT or an opening parenthesis is missing"),
        ("a OR OR b", 6, "a token, NOT or an opening parenthesis is missing before OR"),
        ("a OR AND b", 6, "a token, NOT or an opening parenthesis is missing before AND"),
        ("NOT", 4, "a token, NOT or an opening parenthesis is missing"),
        ("()", 2, "a token, NOT or an opening parenthesis is missing"),
        ("b (a", 3, "the parenthesis is not closed"),
        ("日 a)", 4, "there is no parenthesis to close"),
        ("=\"a\"*", 1, "an exact token cannot be a prefix"),
        (r#""a\q""#, 3, "there is no escape \\q"),
        (r#""\u12""#, 2, "\\u needs a character's number"),
        (r#""\u{110000}""#, 2, "\\u needs a character's number"),
        (r#""\ud83d""#, 2, "\\u needs a character's number"),
        (&deep, 66, "more than 64 parentheses and NOTs"),
        (&nots, 261, "more than 64 parentheses and NOTs"),
        (&long, 1, "257 characters in a term"),
    ] {
        match text.parse::<Query>() {
            Err(Error::Syntax { position: found, problem: why }) => {
                assert!(why.contains(problem), "{text}: {why}");
                assert_eq!(found, position, "{text}: {why}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let many = "a ".repeat(257).parse::<Query>().unwrap_err();
    assert_eq!(many.to_string(), "the search query has 257 terms, at most 256 are supported");
    assert_eq!([many.sqlstate(), "".parse::<Query>().unwrap_err().sqlstate()], ["54000", "42601"]);
    assert!(("(".repeat(1 << 20)).parse::<Query>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn terms_of_any_text_print_as_they_are_read(text in "(?s).{1,20}", form in 0..3usize) {
        let form = [Form::Normalized, Form::Prefix, Form::Exact][form];
        let term = Query::Term(Term::new(None, form, text).unwrap());
        prop_assert_eq!(term.to_string().parse::<Query>(), Ok(term));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\"\\\\():,=* a-c\n]{0,16}|(any:|NOT |AND |OR |[\"(),=*: ]|a|\\PC){0,12}") {
        if let Ok(query) = text.parse::<Query>() {
            prop_assert_eq!(query.to_string().parse::<Query>(), Ok(query));
        }
    }
}
