//! Tests of clients whose encoding is not UTF-8. Answers are those of PostgreSQL 15.

use crate::Running;
use crate::raw::{Raw, message};

const LATIN1: &[u8] = b"caf\xe9";

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_converted() {
    let server = Running::start().await;
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(server.port, "ada");
        let mut utf8 = Raw::connect(server.port, "ada");
        assert_eq!(raw.query("set client_encoding = 'iso-8859-1'").sqlstate(), None);
        assert_eq!(raw.query("show client_encoding").value().unwrap(), "LATIN1");
        assert_eq!(raw.query("select pg_client_encoding()").value().unwrap(), "LATIN1");
        // Queries, names and rows.
        let answer = raw.query_bytes(&[b"select '", LATIN1, b"' as \"", LATIN1, b"\""].concat());
        assert_eq!((answer.bytes().unwrap(), answer.column_name().unwrap()), (LATIN1.to_vec(), LATIN1.to_vec()));
        let table = raw.query_bytes(&[b"create table \"", LATIN1, b"\" (t text)"].concat());
        assert_eq!(table.sqlstate(), None);
        assert_eq!(utf8.query("select count(*) from \"café\"").value().unwrap(), "0");
        // Errors.
        let error = raw.query_bytes(&[b"select * from \"no", LATIN1, b"\""].concat());
        assert!(error.message().unwrap().windows(4).any(|part| part == LATIN1), "{:?}", error.message());
        // Parameters as text and in the binary form, and both forms of results.
        for format in [0, 1] {
            let answer = raw.query_with("select $1", 25, format, LATIN1);
            assert_eq!(answer.bytes().unwrap(), LATIN1, "{format}");
            assert_eq!(raw.query_with("select length($1)", 25, format, LATIN1).value().unwrap(), "4", "{format}");
        }
        // What cannot be converted.
        assert_eq!(raw.query("select chr(8364)").sqlstate().unwrap(), "22P05");
        assert_eq!(raw.query("select 1 as e, chr(8364)").sqlstate().unwrap(), "22P05");
        assert_eq!(raw.query("set client_encoding = win1252").sqlstate(), None);
        assert_eq!(raw.query("select chr(8364)").bytes().unwrap(), b"\x80");
        assert_eq!(raw.query_bytes(b"select '\x81'").sqlstate().unwrap(), "22P05");
        assert_eq!(raw.query_with("select $1", 25, 0, b"\x81").sqlstate().unwrap(), "22P05");
        assert_eq!(raw.query("select 1").value().unwrap(), "1");
        // Copies.
        raw.query("set client_encoding = latin1; create table c (t text)");
        raw.send_query("copy c from stdin");
        let copied = raw.exchange(&[message(b'd', &[LATIN1, b"\n"].concat()), message(b'c', b"")]);
        assert_eq!(copied.tags(), ["COPY 1"]);
        assert_eq!(utf8.query("select t from c").value().unwrap(), "café");
        assert_eq!(raw.query("copy c to stdout").copied(), [LATIN1, b"\n"].concat());
        assert_eq!(raw.query("copy c to stdout with (encoding 'utf8')").copied(), "café\n".as_bytes());
        assert_eq!(
            utf8.query("copy c to stdout with (encoding 'latin1', format csv)").copied(),
            [LATIN1, b"\n"].concat()
        );
        assert_eq!(raw.query("copy c to stdout with (encoding 'wat')").sqlstate().unwrap(), "22023");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_are_settings() {
    let server = Running::start().await;
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(server.port, "ada");
        for (name, shown) in [("utf-8", "UTF8"), ("SQL_ASCII", "SQL_ASCII"), ("koi8", "KOI8R"), ("euc-jp", "EUC_JP")] {
            assert_eq!(raw.query(&format!("set client_encoding = '{name}'")).sqlstate(), None, "{name}");
            assert_eq!(raw.query("show client_encoding").value().unwrap(), shown);
        }
        assert_eq!(raw.query("select 'a'").value().unwrap(), "a");
        assert_eq!(raw.query("select chr(233)").sqlstate().unwrap(), "0A000");
        for (name, sqlstate) in [("wat", "22023"), ("mule_internal", "0A000")] {
            assert_eq!(raw.query(&format!("set client_encoding = '{name}'")).sqlstate().unwrap(), sqlstate);
        }
        raw.query("begin; set client_encoding = latin1");
        assert_eq!(raw.query("select chr(233)").bytes().unwrap(), b"\xe9");
        raw.query("rollback; set client_encoding = utf8");
        assert_eq!(raw.query("select chr(233)").value().unwrap(), "é");
        for (query, value) in [
            ("select convert_from('\\xe9', 'latin1')", "é"),
            ("select convert_to('é', 'latin1')", "\\xe9"),
            ("select set_byte('\\x0000', 1, 257)", "\\x0001"),
            ("select get_byte('\\x00ff', 1)", "255"),
            ("select make_interval(days => 10, hours => 1)", "10 days 01:00:00"),
            ("select getdatabaseencoding()", "UTF8"),
        ] {
            assert_eq!(raw.query(query).value().unwrap(), value, "{query}");
        }
        for (query, sqlstate) in [
            ("select convert_from('\\xff', 'utf8')", "22021"),
            ("select convert_from('a', 'wat')", "22023"),
            ("select convert_to(chr(8364), 'latin1')", "22P05"),
            ("select set_byte('\\x00', 1, 1)", "2202E"),
            ("select make_interval(1, 2, 3, 4, 5, 6, 7, 8)", "42883"),
        ] {
            assert_eq!(raw.query(query).sqlstate().unwrap(), sqlstate, "{query}");
        }
    })
    .await
    .unwrap();
}
