//! Tokens.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{Access, DisplayName, Scope, ScopeSet, TokenId};
use tenantry_store::{NewToken, PageRequest, StoreError, TokenRecord};
use uuid::Uuid;

use crate::catalog::Catalog;

pub(crate) async fn token(catalog: &Catalog, mark: u8, expires_at: Option<Timestamp>) -> TokenRecord {
    let tx = catalog.begin().await;
    let record = tx
        .insert_token(&NewToken {
            id: TokenId::new(Uuid::now_v7()),
            name: DisplayName::parse("ci").unwrap(),
            hash: [mark; 32],
            scopes: ScopeSet::new([Scope::Tenants(Access::Write), Scope::RoutesRead]),
            tenant: None,
            expires_at,
        })
        .await
        .unwrap();
    tx.commit().await.unwrap();
    record
}

#[tokio::test]
async fn a_token_is_found_by_its_hash_until_it_is_revoked_or_expires() {
    let catalog = Catalog::new().await;
    let kept = token(&catalog, 1, None).await;
    token(&catalog, 2, Some(Timestamp::now() - Duration::from_secs(1))).await;
    assert_eq!(catalog.store.token_by_hash(&[1; 32]).await.unwrap(), Some(kept.clone()));
    assert_eq!(catalog.store.token_by_hash(&[2; 32]).await.unwrap(), None);
    assert_eq!(catalog.store.token_by_hash(&[3; 32]).await.unwrap(), None);
    let page = catalog.store.tokens(&PageRequest::default()).await.unwrap();
    let expired = page.items.iter().find(|token| token.id != kept.id).unwrap().id;
    let unknown = TokenId::new(Uuid::now_v7());
    assert_eq!(catalog.store.ended_tokens(&[kept.id, expired, unknown]).await.unwrap(), [expired, unknown]);
    assert_eq!(catalog.store.count_tokens().await.unwrap(), 1);
    for _ in 0..2 {
        let tx = catalog.begin().await;
        tx.revoke_token(kept.id).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(catalog.store.token_by_hash(&[1; 32]).await.unwrap(), None);
    assert_eq!(catalog.store.ended_tokens(&[kept.id]).await.unwrap(), [kept.id]);
    let tx = catalog.begin().await;
    let unknown = tx.revoke_token(TokenId::new(Uuid::now_v7())).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn the_time_of_last_use_never_goes_back() {
    let catalog = Catalog::new().await;
    let (one, two) = (token(&catalog, 1, None).await, token(&catalog, 2, None).await);
    let late = Timestamp::from_second(2_000_000_000).unwrap();
    let early = Timestamp::from_second(1_000_000_000).unwrap();
    catalog.store.touch_tokens(&[(two.id, late), (one.id, early)]).await.unwrap();
    catalog.store.touch_tokens(&[(two.id, early)]).await.unwrap();
    let page = catalog.store.tokens(&PageRequest::default()).await.unwrap();
    let used: Vec<_> = page.items.iter().map(|token| token.last_used_at).collect();
    assert_eq!(used, [Some(early), Some(late)]);
}
