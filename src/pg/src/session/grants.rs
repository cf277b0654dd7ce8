//! GRANT and REVOKE: who may use the schema of which model.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Action, Grant, GrantObjects, Grantee, GranteeName, GranteesType, ObjectName, ObjectNamePart, Privileges, Revoke,
};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use neuroql_access::{Denial, Error, Event, PUBLIC};

use crate::session::result_stream::isolated;
use crate::session::{Outcome, Session};
use crate::sql::column_names::fold;
use crate::wire::error_response::{Failure, SqlError};

/// Runs a GRANT.
pub(crate) async fn grant(session: &mut Session, grant: &Grant) -> Result<Outcome, Failure> {
    if grant.with_grant_option || grant.as_grantor.is_some() || grant.granted_by.is_some() {
        return Err(SqlError::not_supported("privileges are granted by superusers, who do not pass them on").into());
    }
    change(session, "GRANT", &grant.privileges, grant.objects.as_ref(), &grant.grantees, true).await
}

/// Runs a REVOKE.
pub(crate) async fn revoke(session: &mut Session, revoke: &Revoke) -> Result<Outcome, Failure> {
    if revoke.granted_by.is_some() {
        return Err(SqlError::not_supported("REVOKE … GRANTED BY is not supported").into());
    }
    change(session, "REVOKE", &revoke.privileges, revoke.objects.as_ref(), &revoke.grantees, false).await
}

async fn change(
    session: &mut Session,
    verb: &'static str,
    privileges: &Privileges,
    objects: Option<&GrantObjects>,
    grantees: &[Grantee],
    granted: bool,
) -> Result<Outcome, Failure> {
    if !session.user.is_superuser() {
        let denial = Denial::Role(neuroql::Role::Superuser);
        return Err(SqlError::from(Error::Denied { what: verb.into(), denial }).into());
    }
    if session.settings().read_only() {
        return Err(SqlError::from(Error::ReadOnly(verb.into())).into());
    }
    if session.status != TransactionStatus::Idle {
        let message = format!("{verb} cannot run inside a transaction block");
        return Err(SqlError::error("25001", message).with_hint("Privileges cannot be taken back by ROLLBACK.").into());
    }
    if !session.base.permissions.users.have_passwords() {
        let message = format!("{verb} needs users: start the server with --password-file");
        return Err(SqlError::error("55000", message).into());
    }
    let schemas = schemas(session, privileges, objects)?;
    let users = grantees.iter().map(|grantee| user(session, grantee)).collect::<Result<Vec<_>, _>>()?;
    let (permissions, by, client) = (Arc::clone(&session.base.permissions), session.user.name.clone(), session.client);
    isolated(async move {
        permissions.users.change_privileges(|privileges| {
            schemas.iter().for_each(|schema| privileges.set_usage(schema, &users, granted));
        })?;
        let object = format!("{} {} {}", schemas.join(", "), if granted { "to" } else { "from" }, users.join(", "));
        permissions.audit.record(&by, client, Event::Changed { command: verb, object: &object });
        Ok::<_, Error>(())
    })
    .await?;
    Ok(Outcome::done(verb))
}

/// Returns the schemas whose use is granted or revoked.
fn schemas(
    session: &Session,
    privileges: &Privileges,
    objects: Option<&GrantObjects>,
) -> Result<Vec<String>, SqlError> {
    let Some(GrantObjects::Schemas(names)) = objects else {
        let message = "privileges are on schemas of models, as in GRANT USAGE ON SCHEMA smol TO ann";
        return Err(SqlError::not_supported(message).with_hint("Tables in public are read by everybody."));
    };
    if let Privileges::Actions(actions) = privileges
        && let Some(other) = actions.iter().find(|action| !matches!(action, Action::Usage))
    {
        return Err(SqlError::error("0LP01", format!("invalid privilege type {other} for schema")));
    }
    names.iter().map(|name| schema(session, name)).collect()
}

fn schema(session: &Session, name: &ObjectName) -> Result<String, SqlError> {
    let name = single(name)?;
    if session.base.engine.is_model_schema(&name) {
        return Ok(name);
    }
    if session.catalog_has_schema(&name) {
        let message = format!("schema \"{name}\" is none of a model or published data, and can be used by everybody");
        return Err(SqlError::not_supported(message));
    }
    Err(SqlError::error("3F000", format!("schema \"{name}\" does not exist")))
}

fn user(session: &Session, grantee: &Grantee) -> Result<String, SqlError> {
    match (&grantee.grantee_type, &grantee.name) {
        (GranteesType::Public, None) => Ok(PUBLIC.into()),
        (GranteesType::None | GranteesType::Role | GranteesType::User, Some(GranteeName::ObjectName(name))) => {
            let name = single(name)?;
            if name == PUBLIC || session.base.permissions.users.get(&name).is_some() {
                return Ok(name);
            }
            Err(SqlError::error("42704", format!("role \"{name}\" does not exist")))
        }
        _ => Err(SqlError::not_supported(format!("{grantee} is not a user or PUBLIC"))),
    }
}

fn single(name: &ObjectName) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Ok(fold(name)),
        _ => Err(SqlError::error("42601", format!("syntax error: {name} is not a single name"))),
    }
}
