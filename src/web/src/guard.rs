//! Answers requests for this host by its users, and none that a page of another site makes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use crate::error::{Fault, JsonFault, PageFault, TextFault};
use crate::query::Visitor;
use crate::routes::Shared;
use crate::sql_text::encoded;

/// The user of requests where no passwords are asked.
const READER: &str = "reader";

/// Headers of every response.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Address of the client, which the server puts into each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// Names under which the site may be asked for.
#[derive(Debug)]
pub(crate) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Names of this machine at the address, and further ones that were given, with a port or for any.
    pub fn new(address: SocketAddr, given: Vec<String>) -> Self {
        let mut names: Vec<String> = given.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        let own = |host: &str| [format!("{host}:{}", address.port()), host.to_owned()];
        let hosts = ["127.0.0.1", "localhost", "[::1]"].into_iter().flat_map(own);
        // Without its port a name stands for the port of the scheme.
        let is_default = matches!(address.port(), 80 | 443);
        let address_itself = match address.ip() {
            ip if ip.is_unspecified() => Vec::new(),
            IpAddr::V4(ip) => own(&ip.to_string()).to_vec(),
            IpAddr::V6(ip) => own(&format!("[{ip}]")).to_vec(),
        };
        names.extend(
            hosts.chain(address_itself).filter(|name| is_default || name.ends_with(&format!(":{}", address.port()))),
        );
        Self { names }
    }

    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        self.names.iter().any(|name| *name == host || *name == authority.host())
    }
}

/// The form in which a client is told faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Page,
    Json,
    Text,
}

impl Form {
    pub(crate) fn of(path: &str) -> Self {
        let is_under = |folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
        match path {
            _ if is_under("/v1") => Self::Json,
            _ if is_under("/api") || is_under("/bin") || path == "/healthz" => Self::Text,
            _ => Self::Page,
        }
    }

    pub(crate) fn respond(self, fault: Fault) -> Response {
        match self {
            Self::Page => PageFault(fault).into_response(),
            Self::Json => JsonFault(fault).into_response(),
            Self::Text => TextFault(fault).into_response(),
        }
    }
}

/// Answers a request, or refuses it.
pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let form = Form::of(request.uri().path());
    let cors = allowed_origin(&shared, &request);
    let mut response = match admit(&shared, request, form, cors.is_some()).await {
        Ok(Admitted::Request(request)) => next.run(*request).await,
        Ok(Admitted::Answered(response)) => response,
        Err(fault) => form.respond(fault),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if shared.cors.is_some() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = cors {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// A request that has got past the guard.
enum Admitted {
    Request(Box<Request>),
    Answered(Response),
}

async fn admit(shared: &Shared, mut request: Request, form: Form, is_allowed_origin: bool) -> Result<Admitted, Fault> {
    check_host(shared, &request)?;
    let is_from_here = check_site(&request, is_allowed_origin)?;
    if is_allowed_origin && request.method() == Method::OPTIONS {
        return Ok(Admitted::Answered(preflight()));
    }
    let Some(Peer(address)) = request.extensions().get::<Peer>().copied() else {
        return Err(Fault::internal("a request without an address"));
    };
    let path = request.uri().path();
    let is_open = matches!(path, "/login" | "/healthz" | "/favicon.ico") || path.starts_with("/assets/");
    let user = match &shared.logins {
        None => Some((READER.to_owned(), false)),
        Some(_) if is_open => Some((String::new(), false)),
        Some(logins) => match logins.user(request.headers(), address.ip().to_canonical()).await {
            Err(fault) if fault.status == StatusCode::UNAUTHORIZED => {
                return Ok(Admitted::Answered(challenged(form.respond(fault))));
            }
            found => found?,
        },
    };
    let Some((user, has_session)) = user else {
        return Ok(Admitted::Answered(ask_for_login(&request, form)));
    };
    request.extensions_mut().insert(Visitor { user, address, is_from_here, has_session });
    Ok(Admitted::Request(Box::new(request)))
}

fn ask_for_login(request: &Request, form: Form) -> Response {
    let wants_page = form == Form::Page && request.method() == Method::GET;
    if !wants_page {
        return challenged(form.respond(Fault::new(StatusCode::UNAUTHORIZED, "log in, or send a name and a password")));
    }
    let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Redirect::to(&format!("/login?next={}", encoded(next))).into_response()
}

/// Names the way of authentication, as RFC 9110 asks of a response 401.
fn challenged(mut response: Response) -> Response {
    let challenge = HeaderValue::from_static("Basic realm=\"neuroql\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Refuses requests under names that are not those of this site, as they come from a page that has its own name lead
/// here.
fn check_host(shared: &Shared, request: &Request) -> Result<(), Fault> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let host = match (given.next(), given.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err(Fault::bad_request("a request has one Host header")),
    };
    let in_address = request.uri().authority().map(Authority::as_str);
    if shared.hosts.allow(host) && in_address.is_none_or(|named| shared.hosts.allow(named)) {
        return Ok(());
    }
    let shown: String = host.chars().take(100).collect();
    let message = format!("this is not the server of \"{shown}\"; if it should be, start it with --http-host {shown}");
    Err(Fault::new(StatusCode::MISDIRECTED_REQUEST, message))
}

/// Refuses requests that pages of other sites make; returns true if this one comes from here.
fn check_site(request: &Request, is_allowed_origin: bool) -> Result<bool, Fault> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let refused =
        || Fault::new(StatusCode::FORBIDDEN, "a page of another site asked for this; open the address yourself");
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => Ok(true),
        _ if is_allowed_origin => Ok(false),
        Some(_) => {
            let is_opened = request.method() == Method::GET
                && text("sec-fetch-mode") == Some("navigate")
                && text("sec-fetch-dest") == Some("document");
            if is_opened { Ok(false) } else { Err(refused()) }
        }
        // Browsers leave it out where there is neither TLS nor a loopback address.
        None => match text("origin") {
            Some(origin) => {
                if same_host(origin, headers) {
                    Ok(true)
                } else {
                    Err(refused())
                }
            }
            None => Ok(true),
        },
    }
}

fn same_host(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    named.is_some() && named == host
}

/// Returns the origin of a request if its pages were allowed to read the JSON.
fn allowed_origin(shared: &Shared, request: &Request) -> Option<HeaderValue> {
    let allowed = shared.cors.as_ref()?;
    let given = request.headers().get(header::ORIGIN)?;
    (given == allowed && Form::of(request.uri().path()) != Form::Page).then(|| given.clone())
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_site() {
        let hosts = Hosts::new("127.0.0.1:8433".parse().unwrap(), vec!["Lab.example".into(), "other:9000".into()]);
        for host in [
            "127.0.0.1:8433",
            "localhost:8433",
            "LOCALHOST:8433",
            "[::1]:8433",
            "lab.example",
            "lab.example:1",
            "other:9000",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "evil.test:8433",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost:8434",
            "other",
            "other:9001",
            "a@localhost:8433",
            "localhost:8433.evil.test",
            "127.0.0.2:8433",
            "localhost:8433/x",
            "lab.example.evil.test",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
        let lan = Hosts::new("192.168.1.5:443".parse().unwrap(), Vec::new());
        assert!(lan.allow("192.168.1.5") && lan.allow("192.168.1.5:443") && !lan.allow("192.168.1.6"));
        let all = Hosts::new("0.0.0.0:8433".parse().unwrap(), Vec::new());
        assert!(!all.allow("0.0.0.0:8433") && all.allow("localhost:8433"));
    }
}
