//! Pages.

use std::collections::{BTreeSet, VecDeque};

use axum::http::StatusCode;

use super::Client;
use crate::sql_text::encoded;

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_toy() {
    let client = Client::new().await;
    for (path, parts) in [
        ("/", &["<h1>Models</h1>", "href=\"/m/toy\"", "SELECT * FROM models", "corpus", "href=\"/m/dd\""][..]),
        ("/m/toy", &["layer 0", "layer 1", "Where to look first", "median(kurtosis)", "/m/toy/neurons/"]),
        ("/m/toy/layers/1", &["data-x=\"density\"", "F1 of graphs", "aria-sort=\"ascending\"", "50 after"]),
        ("/m/toy/layers/1?sort=kurtosis&dir=desc&page=2", &["aria-sort=\"descending\"", "50 before", "OFFSET 100"]),
        ("/m/toy/layers/1?where=density%20%3C%200.01", &["AND (density &#60; 0.01"]),
        (
            "/m/toy/neurons/1/480",
            &[
                "toy · layer 1 · neuron 480",
                "<svg",
                "currentColor",
                "/search?model=toy&amp;q=activating%3A%3D",
                "Histogram of activations",
                "Strongest",
                "One at random of each octave",
                "data-src=\"/m/toy/neurons/1/480/panels/similar\"",
                "b86188d256",
                "1:479",
                "1:481",
            ],
        ),
        ("/m/toy/neurons/1/511", &["rel=\"next\" href=\"/m/toy/neurons/0/0\""]),
        ("/m/toy/neurons/0/0", &["rel=\"prev\" href=\"/m/toy/neurons/1/511\""]),
        (
            "/m/toy/neurons/1/17?t=The%20President",
            &["class=\"below", "The President</textarea>", "data-t=\" President\""],
        ),
        ("/m/toy/neurons/1/17/panels/tokens", &["Promotes as next token", "Suppresses", "logit_effects("]),
        ("/m/toy/neurons/1/480/panels/similar", &["similarity", "/compare?a=toy%3A1%3A480"]),
        ("/m/toy/neurons/1/17/panels/connections", &["Feed it", "excites", "inhibits"]),
        ("/m/toy/neurons/1/17/panels/live?t=import", &["data-t=\"import\""]),
        ("/text?t=import%20numpy%20as%20np", &["Neurons of toy", "name=\"at\" value=\"2\"", "top_neurons("]),
        (
            "/text?t=import%20numpy%20as%20np&at=1&model=*&dense=1&sort=share",
            &["aria-current=\"true\"", "position = 1", "share DESC"],
        ),
        (
            "/text?t=a%0D%0Ab",
            &["<textarea id=\"t\" name=\"t\" rows=\"3\" spellcheck=\"false\">a\nb</textarea>", ">⏎</button>"],
        ),
        ("/search?q=activating%3Aimport", &["Neurons found", "search(NULL, &#39;activating:import&#39;)"]),
        ("/search?q=(", &["role=\"alert\""]),
        (
            "/compare?a=toy:1:480&b=toy:1:17&t=import",
            &["similarity of patterns", "Only in the first", "key second", "The other way round"],
        ),
        ("/compare?a=toy:1:480&b=toy:1:17", &["data-src=\"/compare/panels/correlation?a=toy%3A1%3A480"]),
        (
            "/compare/panels/correlation?a=toy:1:480&b=toy:1:17",
            &[
                "<dt>correlation (Pearson)</dt>",
                "on which both fire",
                "of the first 20 documents of corpus",
                "corr(a, b)",
            ],
        ),
        ("/compare?a=dd:0:0&b=toy:1:17", &["Graph of dd 0:0", "example 1 as toy 1:17 sees it"]),
        (
            "/m/toy/neurons/1/2?nodes=3",
            &[
                "Draw all",
                "by their activating tokens</summary>",
                "<details class=\"branch\" data-src=\"/m/toy/neurons/1/2/panels/branch?root=",
            ],
        ),
        ("/m/oai", &["published data", "/m/oai/neurons/"]),
        ("/m/oai/neurons/1/17", &["letters inside code", "Strongest", "example 1, activation", "At random"]),
        ("/sql", &["toy.activations", "Neurons where to look first", "/assets/console.js"]),
        (
            "/sql?q=SELECT%201%2B1%20AS%20two&run=1",
            &["1 row<", "<th scope=\"col\" class=\"number\">two</th>", ">2</td>"],
        ),
        ("/sql?q=SELECT%201%2F0&run=1", &["role=\"alert\"", "division by zero", "22012"]),
        (
            "/docs",
            &[
                "<code>neurons</code>",
                "kurtosis",
                "<code>graph_svg</code>",
                "<code>top_neurons</code>",
                "/v1/openapi.json",
            ],
        ),
        ("/m/dd", &["published data", "/m/dd/neurons/0/2"]),
        (
            "/m/dd/neurons/0/1",
            &["an invented explanation of 0:1", "example 1, activation 2.734", "<svg", "Similar neurons"],
        ),
        ("/m/dd/neurons/0/1/panels/similar", &["/m/dd/neurons/1/2", "0.1"]),
        ("/m/dd/layers/1", &["Neurons", "1:0"]),
    ] {
        let page = client.page(path).await;
        for part in parts {
            assert!(page.contains(part), "{path} lacks {part}: {}", page.chars().take(2000).collect::<String>());
        }
        assert!(page.starts_with("<!doctype html>") && page.matches("<h1").count() == 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_pages_come_alone() {
    let client = Client::new().await;
    let part = client.send("GET", "/m/toy/neurons/1/17/panels/tokens", &[("x-fragment", "1")], "").await;
    assert!(part.text().starts_with("<section") && !part.text().contains("<html"));
    let live = client.send("GET", "/m/toy/neurons/1/17/panels/live?t=", &[("x-fragment", "1")], "").await;
    assert_eq!((live.status, live.text()), (StatusCode::OK, ""));
    let drawing = client.get("/m/toy/neurons/1/480/graph.svg?theme=dark").await;
    assert_eq!((drawing.header("content-type"), drawing.text().starts_with("<svg ")), ("image/svg+xml", true));
    assert!(drawing.text().contains("toy 1:480"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections() {
    let client = Client::new().await;
    for (path, status, target) in [
        ("/m/toy/jump?layer=1&neuron=17", StatusCode::SEE_OTHER, "/m/toy/neurons/1/17"),
        ("/m/toy/text?t=a%20b", StatusCode::SEE_OTHER, "/text?model=toy&t=a%20b"),
        ("/viz/toy/neuroscope/1/17", StatusCode::MOVED_PERMANENTLY, "/m/toy/neurons/1/17"),
        ("/viz/toy/all", StatusCode::MOVED_PERMANENTLY, "/m/toy"),
        ("/viz/a%2F..%2Fb/x", StatusCode::MOVED_PERMANENTLY, "/m/a%2F..%2Fb"),
        ("/doc", StatusCode::PERMANENT_REDIRECT, "/docs"),
        ("/login", StatusCode::SEE_OTHER, "/"),
    ] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (status, target), "{path}");
    }
    let random = client.get("/m/toy/random").await;
    assert_eq!((random.status, random.header("cache-control")), (StatusCode::SEE_OTHER, "no-store"));
    assert!(random.header("location").starts_with("/m/toy/neurons/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_sentences() {
    let client = Client::new().await;
    let long = "9".repeat(10_000);
    for (path, status, part) in [
        ("/nothing".to_owned(), StatusCode::NOT_FOUND, "nothing at this address"),
        ("/m/nobody".into(), StatusCode::NOT_FOUND, "no model &#34;nobody&#34;"),
        ("/m/public".into(), StatusCode::NOT_FOUND, "no model"),
        ("/m/pg_catalog/neurons/0/0".into(), StatusCode::NOT_FOUND, "no model"),
        ("/m/toy/neurons/2/0".into(), StatusCode::NOT_FOUND, "toy has no layer &#34;2&#34;: it has 2 layers"),
        ("/m/toy/neurons/1/512".into(), StatusCode::NOT_FOUND, "512 neurons in a layer"),
        ("/m/toy/neurons/-1/0".into(), StatusCode::NOT_FOUND, "no layer"),
        ("/m/toy/neurons/+1/0".into(), StatusCode::NOT_FOUND, "no layer"),
        (format!("/m/toy/neurons/{long}/0"), StatusCode::NOT_FOUND, "no layer"),
        ("/m/toy/layers/x".into(), StatusCode::NOT_FOUND, "no layer"),
        ("/m/toy/layers/0?sort=nothing".into(), StatusCode::BAD_REQUEST, "sorted by"),
        ("/m/toy/layers/0?page=x".into(), StatusCode::BAD_REQUEST, "not a number"),
        ("/m/toy/layers/0?where=nothing%20%3E%201".into(), StatusCode::BAD_REQUEST, "nothing"),
        ("/m/toy/layers/0?where=1)%20OR%20(1".into(), StatusCode::BAD_REQUEST, "not closed"),
        ("/m/toy/neurons/1/17/panels/nothing".into(), StatusCode::NOT_FOUND, "no such panel"),
        ("/m/dd/neurons/0/0/panels/live?t=x".into(), StatusCode::NOT_FOUND, "no such panel"),
        ("/m/toy/neurons/1/17/graph.svg?theme=blue".into(), StatusCode::BAD_REQUEST, "no theme"),
        ("/m/toy/neurons/1/17/graph.svg?method=none".into(), StatusCode::NOT_FOUND, "no such graph"),
        ("/m/toy/neurons/1/17?t=a%00b".into(), StatusCode::BAD_REQUEST, "U+0000"),
        ("/m/%FF".into(), StatusCode::BAD_REQUEST, ""),
        ("/text?t=x&model=nobody".into(), StatusCode::NOT_FOUND, "no network"),
        ("/text?t=x&at=7".into(), StatusCode::BAD_REQUEST, "no token"),
        ("/text?t=x&sort=y".into(), StatusCode::BAD_REQUEST, "activation or share"),
        ("/search?q=a&model=nobody".into(), StatusCode::NOT_FOUND, "no model"),
        ("/compare?a=toy&b=toy:1:1".into(), StatusCode::BAD_REQUEST, "model:layer:neuron"),
        ("/compare?a=toy:1:1&b=toy:1:9999".into(), StatusCode::NOT_FOUND, "no neuron"),
        ("/assets/../Cargo.toml".into(), StatusCode::NOT_FOUND, ""),
        ("/assets/%2e%2e/Cargo.toml".into(), StatusCode::NOT_FOUND, ""),
    ] {
        let shown: String = path.chars().take(80).collect();
        let answer = client.get(&path).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        let text = answer.text().to_owned();
        assert!(text.contains(part) || text.contains(&part.replace("&#34;", "&quot;")), "{shown}: {text}");
        for inner in ["panicked", "Error {", "Some(", "src/", "DataFusion"] {
            assert!(!text.contains(inner), "{shown}: {text}");
        }
    }
}

/// Texts that try to leave the place that they are put in.
const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; DROP TABLE toy; --",
    "{{ 7*7 }} ${7*7}",
    "\u{202e}\u{2066}abc\u{feff}",
    "</textarea></title></svg><script>",
    "&lt;b&gt; %3Cb%3E",
    "javascript:alert(1)",
    "\u{1f9e0}\r\n\tx\u{0b}\u{1b}[31m",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_stay_text() {
    let client = Client::new().await;
    let long = "<i>".repeat(3400);
    for text in HOSTILE.iter().copied().chain([long.as_str()]) {
        let given = encoded(text);
        for path in [
            format!("/text?t={given}"),
            format!("/text?t={given}&at=0&model=*"),
            format!("/m/toy/neurons/1/17?t={given}"),
            format!("/m/toy/neurons/1/17/panels/live?t={given}"),
            format!("/search?q={given}"),
            format!("/search?q=%22{given}%22"),
            format!("/compare?a=toy:1:17&b=toy:1:480&t={given}"),
            format!("/compare?a={given}&b={given}"),
            format!("/sql?q={given}&run=1"),
            format!("/m/{given}"),
            format!("/m/{given}/neurons/0/0"),
            format!("/m/toy/neurons/{given}/0"),
            format!("/m/toy/layers/0?where={given}"),
            format!("/m/toy/layers/0?sort={given}"),
            format!("/login?next={given}"),
            format!("/viz/{given}/x"),
            format!("/{given}"),
        ] {
            let answer = client.get(&path).await;
            let shown: String = path.chars().take(120).collect();
            assert!(answer.status != StatusCode::INTERNAL_SERVER_ERROR, "{shown}: {}", answer.text());
            let page = answer.text();
            for leak in ["<script>alert", "<img src=x", "</textarea></title>", "<i><i>", "href=\"javascript:"] {
                assert!(!page.contains(leak), "{shown} has {leak}:\n{page}");
            }
            assert!(!page.contains('\0'), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_is_a_name() {
    let client = Client::new().await;
    let name = "<b>'&%2F \u{202e}x";
    let models = client.page("/").await;
    assert!(models.contains("&#60;b&#62;") || models.contains("&lt;b&gt;"));
    assert!(!models.contains("<b>'&"));
    let base = format!("/m/{}", encoded(name));
    for path in [
        base.clone(),
        format!("{base}/layers/0"),
        format!("{base}/neurons/0/0"),
        format!("{base}/neurons/0/1/panels/similar"),
    ] {
        let page = client.page(&path).await;
        assert!(!page.contains("<b>'&"), "{path}");
    }
    assert_eq!(client.get(&format!("/api/{}/metadata", encoded(name))).await.json()["data"]["name"], name);
}

/// All links of the site lead somewhere.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_alive() {
    let client = Client::new().await;
    let mut seen = BTreeSet::new();
    let mut kinds: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let mut queue = VecDeque::from(["/".to_owned()]);
    let mut asked = 0;
    while let Some(path) = queue.pop_front() {
        // A few of each kind: pages of neurons are alike.
        let kind: String = path.split('?').next().unwrap().chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let of_kind = kinds.entry(kind).or_default();
        *of_kind += 1;
        if *of_kind > 6 || asked >= 150 {
            continue;
        }
        asked += 1;
        let answer = client.get(&path).await;
        assert!(
            answer.status.is_success() || answer.status.is_redirection(),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        if !answer.header("content-type").starts_with("text/html") {
            continue;
        }
        for attribute in ["href=\"", "src=\"", "data-src=\"", "action=\""] {
            for rest in answer.text().split(attribute).skip(1) {
                let link =
                    rest.split('"').next().unwrap().replace("&amp;", "&").replace("&#38;", "&").replace("&#39;", "'");
                let link = match link.split('#').next().unwrap() {
                    "" => continue,
                    query if query.starts_with('?') => format!("{}{query}", path.split('?').next().unwrap()),
                    link if link.starts_with('/') => link.to_owned(),
                    other => panic!("{path} links to {other}"),
                };
                if link != "/logout" && seen.insert(link.clone()) {
                    queue.push_back(link);
                }
            }
        }
    }
    assert!(asked > 40 && seen.len() > 100, "{asked} of {}", seen.len());
}

/// Branches of a graph that is drawn in part open one by one; together they have its nodes.
#[tokio::test(flavor = "multi_thread")]
async fn branches_open_in_place() {
    let client = Client::new().await;
    let page = client.page("/m/toy/neurons/1/2?nodes=3").await;
    let links: Vec<_> = page
        .split("<details class=\"branch\" data-src=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|link| link.replace("&amp;", "&"))
        .collect();
    assert!(links.len() > 1, "{links:?}");
    for link in links.iter().take(5) {
        let branch = client.send("GET", link, &[("x-fragment", "1")], "").await;
        assert_eq!(branch.status, StatusCode::OK, "{link}: {}", branch.text());
        assert!(branch.text().starts_with("<section") && branch.text().contains("<svg"), "{link}: {}", branch.text());
        let whole = client.page(link).await;
        assert!(whole.contains("<h1>") && whole.contains("graph_from_nodes("), "{link}");
    }
    let all = client.page("/m/toy/neurons/1/2").await;
    assert!(!all.contains("details class=\"branch\"") || all.contains("Draw all"));
    for (path, status) in [
        ("/m/toy/neurons/1/480/panels/branch", StatusCode::BAD_REQUEST),
        ("/m/toy/neurons/1/480/panels/branch?root=0", StatusCode::BAD_REQUEST),
        ("/m/toy/neurons/1/480/panels/branch?root=x&method=neuroql", StatusCode::NOT_FOUND),
        ("/m/toy/neurons/1/480/panels/branch?root=-1&method=neuroql", StatusCode::NOT_FOUND),
        ("/m/toy/neurons/1/480/panels/branch?root=99999999999999999999&method=neuroql", StatusCode::NOT_FOUND),
        ("/m/toy/neurons/1/480/panels/branch?root=0&method=%27%3B--%3Cb%3E", StatusCode::NOT_FOUND),
        ("/m/toy/neurons/1/480/panels/branch?root=%3Cscript%3E&method=%E2%80%AE", StatusCode::NOT_FOUND),
        ("/m/oai/neurons/1/17/panels/branch?root=0&method=neuroql", StatusCode::NOT_FOUND),
        ("/compare/panels/correlation?a=toy:1:480", StatusCode::BAD_REQUEST),
        ("/compare/panels/correlation?a=toy:1:480&b=toy:1:480", StatusCode::BAD_REQUEST),
        ("/compare/panels/correlation?a=toy:1:480&b=dd:0:0", StatusCode::BAD_REQUEST),
        ("/compare/panels/correlation?a=dd:0:1&b=dd:0:0", StatusCode::BAD_REQUEST),
        ("/compare/panels/correlation?a=toy:1:480&b=%3Cb%3E", StatusCode::BAD_REQUEST),
        ("/compare/panels/correlation?a=toy:1:480&b=toy:1:512", StatusCode::NOT_FOUND),
        ("/compare/panels/correlation?a=toy:1:480&b=no:1:%00", StatusCode::NOT_FOUND),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.text().contains("<script>") && !answer.text().contains("<b>\""), "{path}");
    }
    // A name that needs escapes everywhere.
    let model = encoded("<b>'&%2F \u{202e}x");
    let page = client.page(&format!("/m/{model}/neurons/0/0?nodes=1")).await;
    assert!(page.contains("details class=\"branch\"") && !page.contains("<b>'"));
    let link = page.split("<details class=\"branch\" data-src=\"").nth(1).and_then(|rest| rest.split('"').next());
    assert!(client.page(&link.unwrap().replace("&amp;", "&")).await.contains("<svg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_networks() {
    let client = Client::new().await;
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'toy' ORDER BY 1";
    let listed = client.query(serde_json::json!({ "sql": sql })).await.json();
    let listed: Vec<_> = listed["rows"].as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(client.get("/v1/models/toy").await.json()["tables"], serde_json::json!(listed));
}
