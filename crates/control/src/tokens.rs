//! API tokens: made once, shown once, kept as a hash.

use jiff::Timestamp;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry_domain::{Access, DisplayName, RequestId, Scope, ScopeSet, Secret, TenantId, TokenId};
use tenantry_store::{AuditEntry, NewToken, Page, PageRequest, Store, TenantRef, TokenRecord};

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;

/// What every token begins with, so that people and scanners recognise one.
const PREFIX: &str = "tenantry_";

/// The wish for a token.
#[derive(Debug, Clone)]
pub struct CreateToken {
    /// Its name for people.
    pub name: DisplayName,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The only tenant that it may see.
    pub tenant: Option<TenantRef>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Makes a token. The secret is returned here and never again. Nobody grants more than they hold.
pub async fn create(
    control: &Control,
    caller: &Caller,
    wish: CreateToken,
) -> Result<(TokenRecord, Secret), ControlError> {
    caller.require(Scope::Tokens(Access::Write))?;
    if wish.scopes.is_empty() {
        return Err(ControlError::invalid("/scopes", "name at least one scope"));
    }
    if !caller.scopes.covers(&wish.scopes) {
        return Err(ControlError::Forbidden { scope: "a scope that your own token does not have".to_owned() });
    }
    if wish.expires_at.is_some_and(|at| at <= Timestamp::now()) {
        return Err(ControlError::invalid("/expires_at", "it is in the past; name a later time"));
    }
    let tenant = match (&wish.tenant, caller.tenant) {
        (Some(tenant), _) => {
            let tenant = control
                .store()
                .tenant(tenant)
                .await
                .map_err(|_| ControlError::invalid("/tenant", format!("there is no tenant `{tenant}`")))?;
            if !caller.sees(tenant.id) {
                return Err(ControlError::invalid("/tenant", "your own token is bound to another tenant"));
            }
            Some(tenant.id)
        }
        (None, bound) => bound,
    };
    create_unchecked(control.store(), &caller.actor(), Some(caller.request_id), wish, tenant).await
}

/// Makes the first token straight in the catalog, for whoever holds the catalog's own credential.
pub async fn create_first(
    store: &Store,
    name: DisplayName,
    scopes: ScopeSet,
    expires_at: Option<Timestamp>,
) -> Result<(TokenRecord, Secret), ControlError> {
    let wish = CreateToken { name, scopes, tenant: None, expires_at };
    create_unchecked(store, "catalog owner", None, wish, None).await
}

async fn create_unchecked(
    store: &Store,
    actor: &str,
    request_id: Option<RequestId>,
    wish: CreateToken,
    tenant: Option<TenantId>,
) -> Result<(TokenRecord, Secret), ControlError> {
    let secret = random_token()?;
    let id = TokenId::new(new_id());
    let tx = store.begin().await?;
    let token = tx
        .insert_token(&NewToken {
            id,
            name: wish.name.clone(),
            hash: hash(&secret),
            scopes: wish.scopes.clone(),
            tenant,
            expires_at: wish.expires_at,
        })
        .await?;
    tx.audit(&AuditEntry {
        actor: actor.to_owned(),
        action: "token.create".to_owned(),
        target: format!("token/{id}"),
        tenant,
        request_id,
        operation: None,
        before: None,
        after: Some(summary(&token)),
    })
    .await?;
    tx.commit().await?;
    Ok((token, secret))
}

/// A page of tokens, oldest first, without their secrets.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<TokenRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Tokens(Access::Read))?;
    Ok(control.store().tokens(page).await?)
}

/// Ends a token at once.
pub async fn revoke(control: &Control, caller: &Caller, id: TokenId) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Tokens(Access::Write))?;
    let tx = control.store().begin().await?;
    let before = tx.lock_token(id).await?;
    let after = tx.revoke_token(id).await?;
    let entry = AuditEntry {
        tenant: before.tenant,
        before: Some(summary(&before)),
        after: Some(summary(&after)),
        ..caller.does("token.revoke", format!("token/{id}"))
    };
    tx.audit(&entry).await?;
    tx.commit().await?;
    Ok(())
}

/// Whom a shown token stands for; `None` when it is unknown, revoked or expired. The token is looked up by its SHA-256:
/// it has 256 random bits, so neither a slow hash nor a comparison in constant time would add anything.
pub async fn authenticate(
    control: &Control,
    secret: &Secret,
    request_id: RequestId,
) -> Result<Option<Caller>, ControlError> {
    if !secret.expose().starts_with(PREFIX) {
        return Ok(None);
    }
    let Some(token) = control.store().token_by_hash(&hash(secret)).await? else { return Ok(None) };
    control.token_use().saw(token.id);
    Ok(Some(Caller {
        token: Some(token.id),
        name: format!("token/{}", token.name),
        scopes: token.scopes,
        tenant: token.tenant,
        request_id,
    }))
}

/// Which of these tokens are no longer good; the others count as used.
pub async fn ended(control: &Control, tokens: &[TokenId]) -> Result<Vec<TokenId>, ControlError> {
    let ended = control.store().ended_tokens(tokens).await?;
    tokens.iter().filter(|token| !ended.contains(token)).for_each(|token| control.token_use().saw(*token));
    Ok(ended)
}

/// What the audit log keeps of a token: nothing that would let anybody use it.
fn summary(token: &TokenRecord) -> Value {
    json!({
        "name": token.name,
        "scopes": token.scopes,
        "tenant": token.tenant,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    })
}

fn hash(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose().as_bytes()).into()
}

fn random_token() -> Result<Secret, ControlError> {
    let mut bytes = [0_u8; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(ControlError::internal)?;
    let mut text = String::with_capacity(PREFIX.len() + 64);
    text.push_str(PREFIX);
    for byte in bytes {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Secret::new(text))
}
