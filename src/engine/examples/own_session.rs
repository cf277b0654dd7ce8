//! neuroql's tables and functions in a `SessionContext` that a program already has, joined with its own tables.
//!
//! `cargo run --release -p neuroql --example own_session`

use datafusion::prelude::{SessionConfig, SessionContext};

#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
    neuroql::register_all(&context)?;

    context
        .sql("CREATE TABLE prompts AS VALUES ('The President of the United States'), ('import numpy as np')")
        .await?;
    context
        .sql("SELECT column1 AS prompt, array_max(activation('toy', 1, 17, column1)) AS peak FROM prompts ORDER BY 2 DESC")
        .await?
        .show()
        .await
}
