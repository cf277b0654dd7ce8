//! Addresses and what answers them.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::assets::asset;
use crate::error::Fault;
use crate::guard::{Form, Hosts, guard};
use crate::query::Statements;
use crate::sessions::Logins;
use crate::{deepdecipher, pages, v1};

/// Greatest number of bytes of the body of a request.
const MOST_BODY: usize = 1 << 20;

/// State of the site.
#[derive(Debug)]
pub(crate) struct Shared {
    pub statements: Statements,
    /// `None` where no passwords are asked.
    pub logins: Option<Logins>,
    pub hosts: Hosts,
    /// Origin whose pages may read the JSON.
    pub cors: Option<HeaderValue>,
}

/// Builds the service of a site.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(pages::models::page))
        .route("/m/{model}", get(pages::model::page))
        .route("/m/{model}/jump", get(pages::model::jump))
        .route("/m/{model}/random", get(pages::model::random))
        .route("/m/{model}/layers/{layer}", get(pages::layer::page))
        .route("/m/{model}/neurons/{layer}/{neuron}", get(pages::neuron::page))
        .route("/m/{model}/neurons/{layer}/{neuron}/graph.svg", get(pages::neuron::drawing))
        .route("/m/{model}/neurons/{layer}/{neuron}/panels/{panel}", get(pages::neuron::panel))
        .route("/m/{model}/text", get(pages::text::of_model))
        .route("/text", get(pages::text::page))
        .route("/search", get(pages::search::page))
        .route("/compare", get(pages::compare::page))
        .route("/compare/panels/correlation", get(pages::compare::correlation))
        .route("/sql", get(pages::console::page))
        .route("/docs", get(pages::docs::page))
        .route("/login", get(pages::login::page).post(pages::login::log_in))
        .route("/logout", post(pages::login::log_out))
        .route("/assets/{*name}", get(asset))
        .route("/healthz", get(async || "ok\n"))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/v1/query", post(v1::query::query))
        .route("/v1/models", get(v1::models))
        .route("/v1/models/{model}", get(v1::model))
        .route("/v1/models/{model}/neurons/{layer}/{neuron}", get(v1::neuron))
        .route("/v1/models/{model}/neurons/{layer}/{neuron}/activations", get(v1::activations))
        .route("/v1/models/{model}/neurons/{layer}/{neuron}/examples", get(v1::examples))
        .route("/v1/top-neurons", get(v1::top_neurons))
        .route("/v1/search", get(v1::search))
        .route("/v1/openapi.json", get(v1::openapi))
        .route("/api", get(deepdecipher::index))
        .route("/api/{*path}", get(deepdecipher::service))
        .route("/bin/{*path}", get(deepdecipher::binary))
        .route("/viz/{*path}", get(deepdecipher::old_page))
        .route("/doc", any(deepdecipher::old_documentation))
        .route("/doc/openapi.json", get(v1::openapi))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

async fn nothing(uri: Uri) -> Response {
    Form::of(uri.path()).respond(Fault::not_found("there is nothing at this address"))
}

async fn wrong_method(uri: Uri) -> Response {
    let fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "this address is not asked for with this method");
    Form::of(uri.path()).respond(fault)
}
