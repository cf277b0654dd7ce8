//! Refused requests, and the headers of all answers.

use std::io::Write;

use axum::http::StatusCode;
use neuroql_access::{PasswordFile, User, Users};
use neuroql_pg::Readers;
use serde_json::json;

use super::{ADDRESS, Client, readers};
use crate::server::{Config, Error, Site};

fn users() -> Users {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "ada:secret:superuser\nbob:hunter2").unwrap();
    Users::read(file.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_are_misdirected() {
    let client = Client::new().await;
    for host in ["evil.test", "evil.test:8433", "127.0.0.1:8434", ""] {
        for path in ["/", "/healthz", "/v1/models", "/assets/style.css"] {
            let answer = client.send("GET", path, &[("host", host)], "").await;
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
        }
    }
    assert_eq!(client.send("GET", "/healthz", &[("host", "localhost:8433")], "").await.text(), "ok\n");
    let two = client.send("GET", "/healthz", &[("host", ADDRESS), ("host", "evil.test")], "").await;
    assert_eq!(two.status, StatusCode::BAD_REQUEST);
    let named = Client::with(Config { hosts: vec!["lab.example".into()], ..Config::default() }, None).await;
    assert_eq!(named.send("GET", "/healthz", &[("host", "lab.example")], "").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused() {
    let client = Client::new().await;
    let navigation = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    for site in ["cross-site", "same-site"] {
        for mode in ["cors", "no-cors"] {
            let headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", "empty")];
            for (method, path) in
                [("GET", "/v1/models"), ("POST", "/v1/query"), ("GET", "/m/toy"), ("GET", "/assets/page.js")]
            {
                assert_eq!(
                    client.send(method, path, &headers, "{}").await.status,
                    StatusCode::FORBIDDEN,
                    "{site} {mode} {path}"
                );
            }
        }
        let opened = [("sec-fetch-site", site), navigation[0], navigation[1]];
        assert_eq!(client.send("GET", "/healthz", &opened, "").await.status, StatusCode::OK, "{site}");
        assert_eq!(client.send("POST", "/login", &opened, "").await.status, StatusCode::FORBIDDEN, "{site}");
        let framed = [("sec-fetch-site", site), navigation[0], ("sec-fetch-dest", "iframe")];
        assert_eq!(client.send("GET", "/", &framed, "").await.status, StatusCode::FORBIDDEN, "{site}");
    }
    for site in ["none", "same-origin"] {
        assert_eq!(client.send("GET", "/healthz", &[("sec-fetch-site", site)], "").await.status, StatusCode::OK);
    }
    // Without that header the origin decides.
    for (origin, status) in [
        ("http://127.0.0.1:8433", StatusCode::OK),
        ("http://evil.test", StatusCode::FORBIDDEN),
        ("http://127.0.0.1:9000", StatusCode::FORBIDDEN),
        ("null", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(client.send("GET", "/healthz", &[("origin", origin)], "").await.status, status, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_origin_may_read_unless_it_was_named() {
    let client = Client::new().await;
    let answer = client.send("OPTIONS", "/v1/query", &[("origin", "http://evil.test")], "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.header("access-control-allow-origin"), "");

    let named = Client::with(Config { cors: Some("https://lab.example".into()), ..Config::default() }, None).await;
    let from = [("origin", "https://lab.example"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")];
    let answer = named.send("GET", "/v1/models", &from, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, "https://lab.example"));
    assert_eq!(answer.header("vary"), "Origin");
    let preflight = named.send("OPTIONS", "/v1/query", &from, "").await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (StatusCode::NO_CONTENT, "GET, POST")
    );
    // Its pages read the JSON only.
    assert_eq!(named.send("GET", "/m/toy", &from, "").await.status, StatusCode::FORBIDDEN);
    let other = [("origin", "https://lab.example.evil.test"), ("sec-fetch-site", "cross-site")];
    assert_eq!(named.send("GET", "/v1/models", &other, "").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_policy() {
    let client = Client::new().await;
    for path in
        ["/", "/nothing", "/v1/nothing", "/api/nothing/x", "/assets/style.css", "/healthz", "/m/toy/neurons/9/9"]
    {
        let answer = client.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
    // Nothing is run or styled inline.
    for path in
        ["/", "/m/toy", "/m/toy/layers/1", "/m/toy/neurons/1/17", "/text?t=import", "/search?q=import", "/sql", "/docs"]
    {
        let page = client.page(path).await;
        for inline in [" style=", " onclick=", " onload=", " onerror=", "<style", "javascript:"] {
            assert!(!page.contains(inline), "{path} has {inline}");
        }
        assert!(
            page.split("<script").skip(1).all(|rest| rest.split('>').next().unwrap().contains("src=\"/assets/")),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_json_and_not_large() {
    let client = Client::new().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        let answer = client.send("POST", "/v1/query", &[("content-type", kind)], "{\"sql\": \"SELECT 1\"}").await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let large = json!({ "sql": format!("SELECT '{}'", "x".repeat(1 << 20)) });
    assert_eq!(client.query(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    for bad in [
        "",
        "[]",
        "{\"sql\": 1}",
        "{\"sql\": \"SELECT 1\", \"other\": 1}",
        "{\"sql\": \"SELECT 1\", \"format\": \"xml\"}",
    ] {
        let answer = client.send("POST", "/v1/query", &[("content-type", "application/json")], bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    for (method, path) in [("GET", "/v1/query"), ("PUT", "/"), ("DELETE", "/v1/models"), ("POST", "/m/toy")] {
        assert_eq!(client.send(method, path, &[], "").await.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_only_read() {
    let client = Client::new().await;
    for (sql, status, sqlstate) in [
        ("CREATE TABLE t (a int)", StatusCode::FORBIDDEN, "42501"),
        ("INSERT INTO toy.graphs SELECT * FROM toy.graphs", StatusCode::FORBIDDEN, "42501"),
        ("COPY (SELECT 1) TO '/tmp/neuroql-web-test.csv'", StatusCode::FORBIDDEN, "42501"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'http://169.254.169.254/'", StatusCode::FORBIDDEN, "42501"),
        ("SELECT * FROM analyze(model => 'toy', dataset => 'corpus')", StatusCode::FORBIDDEN, "42501"),
        ("SET neuroql.device = 'cpu'", StatusCode::FORBIDDEN, "25006"),
        ("SET datafusion.execution.batch_size = 1", StatusCode::FORBIDDEN, "25006"),
        ("BEGIN", StatusCode::FORBIDDEN, "25006"),
        ("SELECT 1; DROP TABLE toy", StatusCode::BAD_REQUEST, "42601"),
        ("SELECT FROM", StatusCode::BAD_REQUEST, "42601"),
        ("SELECT * FROM nothing", StatusCode::BAD_REQUEST, "42P01"),
        ("SELECT 1 / 0", StatusCode::BAD_REQUEST, "22012"),
    ] {
        let answer = client.query(json!({ "sql": sql })).await;
        assert_eq!((answer.status, &answer.json()["error"]["sqlstate"]), (status, &json!(sqlstate)), "{sql}");
    }
    let deep = client.query(json!({ "sql": format!("SELECT {}1", "(1 + ".repeat(5000)) })).await;
    assert_eq!(deep.json()["error"]["sqlstate"], "54001");
    let users = client.query(json!({ "sql": "SELECT current_user, location FROM models" })).await.json();
    assert_eq!(users["rows"], json!([["reader", null]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_and_out() {
    let client = Client::with(Config::default(), Some(users())).await;
    let answer = client.get("/m/toy?x=1").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/login?next=%2Fm%2Ftoy%3Fx%3D1"));
    for path in ["/v1/models", "/api"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{path}");
    }
    assert!(client.page("/login?next=//evil.test").await.contains("name=\"next\" value=\"/\""));
    assert_eq!(client.get("/assets/style.css").await.status, StatusCode::OK);

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let wrong = client.send("POST", "/login", &form, "name=ada&password=x&next=/").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text().contains("the name or the password is wrong") && wrong.header("set-cookie").is_empty());
    let answer = client.send("POST", "/login", &form, "name=ada&password=secret&next=/m/toy").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/m/toy"));
    let cookie = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let page = client.send("GET", "/m/toy", &[("cookie", cookie)], "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("Log out ada"));

    // A superuser reads here as others do.
    let json_headers = [("cookie", cookie), ("content-type", "application/json")];
    let who = client.send("POST", "/v1/query", &json_headers, "{\"sql\": \"SELECT current_user\"}").await.json();
    assert_eq!(who["rows"], json!([["ada"]]));
    let change = client.send("POST", "/v1/query", &json_headers, "{\"sql\": \"DROP TABLE toy\"}").await;
    assert_eq!(change.status, StatusCode::FORBIDDEN);

    let out = client.send("POST", "/logout", &[("cookie", cookie)], "").await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(client.send("GET", "/m/toy", &[("cookie", cookie)], "").await.status, StatusCode::SEE_OTHER);
    assert_eq!(client.send("GET", "/m/toy", &[("cookie", "neuroql_session=")], "").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_programs() {
    let client = Client::with(Config::default(), Some(users())).await;
    // bob:hunter2
    let basic = [("authorization", "Basic Ym9iOmh1bnRlcjI=")];
    assert_eq!(client.send("GET", "/v1/models", &basic, "").await.status, StatusCode::OK);
    for (given, status) in [
        ("Basic Ym9iOnd yb25n", StatusCode::BAD_REQUEST),
        ("Bearer x", StatusCode::BAD_REQUEST),
        ("Basic", StatusCode::BAD_REQUEST),
        ("Basic Ym9i", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(client.send("GET", "/v1/models", &[("authorization", given)], "").await.status, status, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_limited() {
    let client = Client::with(Config::default(), Some(users())).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for _ in 0..5 {
        let wrong = client.send("POST", "/login", &form, "name=ada&password=x").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    }
    let right = client.send("POST", "/login", &form, "name=ada&password=secret").await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS);
    let basic = [("authorization", "Basic Ym9iOmh1bnRlcjI=")];
    assert_eq!(client.send("GET", "/v1/models", &basic, "").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_needs_passwords_and_encryption() {
    let (readers, of_users): (Readers, Readers) = (readers(None).await, readers(Some(users())).await);
    let config = Config { listen: "0.0.0.0:0".into(), ..Config::default() };
    assert!(matches!(Site::bind(readers.clone(), config.clone()).await, Err(Error::Exposed { .. })));
    assert!(matches!(Site::bind(of_users.clone(), config.clone()).await, Err(Error::Unencrypted { .. })));
    let allowed = Config { allow_unencrypted: true, ..config };
    assert!(Site::bind(of_users, allowed).await.is_ok());

    let local = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
    let site = Site::bind(readers.clone(), local).await.unwrap();
    let taken = Config { listen: site.local_addr().to_string(), ..Config::default() };
    assert!(Site::bind(readers.clone(), taken).await.unwrap_err().is_taken());
    let star = Config { listen: "127.0.0.1:0".into(), cors: Some("*".into()), ..Config::default() };
    assert!(matches!(Site::bind(readers, star).await, Err(Error::Origin(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_have_limits() {
    use std::time::Duration;

    let config = Config {
        query_timeout: Duration::from_millis(300),
        page_timeout: Duration::from_millis(300),
        max_queries_per_user: 1,
        ..Config::default()
    };
    let client = Client::with(config, None).await;
    let endless = || json!({ "sql": "SELECT count(*) FROM generate_series(1, 100000000000)" });
    let (first, second) = tokio::join!(client.query(endless()), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.query(endless()).await
    });
    assert_eq!((first.status, second.status), (StatusCode::GATEWAY_TIMEOUT, StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(first.json()["error"]["sqlstate"], "57014");
    // The place is free again.
    assert_eq!(client.query(json!({ "sql": "SELECT 1" })).await.status, StatusCode::OK);
}

/// Checks that a model that a user may not use is not on any page, and that removed users are refused.
#[tokio::test(flavor = "multi_thread")]
async fn pages_show_what_a_user_may_see() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let verifier = |user: &str, role| {
        let add = |users: &mut PasswordFile| users.add(User::new(user, role), user);
        PasswordFile::edit(&file, true, add).unwrap();
    };
    verifier("ada", neuroql::Role::Superuser);
    verifier("bob", neuroql::Role::Reader);
    let client = Client::with(Config::default(), Some(Users::read(&file).unwrap())).await;
    let answer = async |user: &str, path: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{user}")));
        client.send("GET", path, &[("authorization", &basic)], "").await
    };
    let hide = |granted| {
        let change = |users: &mut PasswordFile| {
            users.privileges_mut().set_usage("dd", &["public".into()], granted);
            Ok(())
        };
        PasswordFile::edit(&file, false, change).unwrap();
    };
    assert!(answer("bob", "/").await.text().contains("/m/dd"));
    hide(false);
    for path in ["/", "/v1/models", "/m/toy", "/text?t=import"] {
        let (seen, hidden) = (answer("ada", path).await, answer("bob", path).await);
        assert_eq!((seen.status, hidden.status), (StatusCode::OK, StatusCode::OK), "{path}");
        assert!(!hidden.text().contains("/m/dd") && !hidden.text().contains("\"dd\""), "{path}");
    }
    assert!(answer("ada", "/").await.text().contains("/m/dd"));
    for path in
        ["/m/dd", "/m/dd/layers/0", "/m/dd/neurons/0/0", "/v1/models/dd/neurons/0/0", "/compare?a=dd:0:0&b=toy:1:480"]
    {
        let (seen, hidden) = (answer("ada", path).await, answer("bob", path).await);
        assert_eq!(seen.status, StatusCode::OK, "{path}: {}", seen.text());
        assert!(hidden.status.is_client_error(), "{path}: {}", hidden.status);
    }
    hide(true);
    assert_eq!(answer("bob", "/m/dd").await.status, StatusCode::OK);

    // A login of a user who is removed is worth nothing.
    let form = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let login = client.send("POST", "/login", &form, "name=bob&password=bob").await;
    let cookie = login.header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(client.send("GET", "/", &[("cookie", &cookie)], "").await.status, StatusCode::OK);
    PasswordFile::edit(&file, false, |users| users.remove("bob")).unwrap();
    assert_eq!(answer("bob", "/").await.status, StatusCode::UNAUTHORIZED);
    assert!(!client.send("GET", "/", &[("cookie", &cookie)], "").await.status.is_success());
}
