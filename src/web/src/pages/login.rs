//! `/login` and `/logout`.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::html;
use super::{Result, Site};
use crate::error::Fault;
use crate::parameters::Parameters;
use crate::query::Visitor;

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    message: Option<&'a str>,
    next: &'a str,
}

/// Longest name and password.
const LONGEST: usize = 1024;

#[derive(Deserialize)]
pub(crate) struct Given {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

pub(crate) async fn page(State(site): Site, visitor: Visitor, parameters: Parameters) -> Result<Response> {
    if site.logins.is_none() {
        return Ok(Redirect::to("/").into_response());
    }
    let form = Login { message: None, next: own(parameters.get("next").unwrap_or("/")) };
    Ok(html::page(&visitor, "Log in", &Vec::new(), &form.render()?)?)
}

pub(crate) async fn log_in(
    State(site): Site,
    visitor: Visitor,
    given: std::result::Result<Form<Given>, FormRejection>,
) -> Result<Response> {
    let Some(logins) = &site.logins else { return Ok(Redirect::to("/").into_response()) };
    let Form(given) =
        given.map_err(|rejection| Fault::new(rejection.status(), "the form has a name and a password"))?;
    if given.name.len() > LONGEST || given.password.len() > LONGEST {
        return Err(Fault::bad_request("the name or the password is too long").into());
    }
    let next = own(&given.next);
    match logins.log_in(&given.name, &given.password, visitor.address.ip().to_canonical()).await {
        Ok(cookie) => Ok((StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, next.to_owned())])
            .into_response()),
        Err(fault) => {
            let form = Login { message: Some(&fault.message), next };
            let page = html::page(&visitor, "Log in", &Vec::new(), &form.render()?)?;
            Ok((fault.status, page).into_response())
        }
    }
}

pub(crate) async fn log_out(State(site): Site, headers: HeaderMap) -> Response {
    let location = (header::LOCATION, "/login".to_owned());
    match &site.logins {
        Some(logins) => {
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, logins.log_out(&headers)), location]).into_response()
        }
        None => Redirect::to("/").into_response(),
    }
}

/// Returns an address of this site; the first page for any other.
fn own(next: &str) -> &str {
    let is_own = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn a_login_leads_to_this_site_only() {
        assert_eq!(own("/m/toy?a=b#c"), "/m/toy?a=b#c");
        for other in ["", "//evil.test", "https://evil.test", "/\\evil.test", "javascript:alert(1)", "/a\r\nb", "/ä"] {
            assert_eq!(own(other), "/", "{other}");
        }
    }
}
