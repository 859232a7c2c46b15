//! Requests that may be sent again.

use std::time::Duration;

use tenantry_store::Idempotent;

use crate::catalog::Catalog;
use crate::tokens::token;

#[tokio::test]
async fn of_many_same_requests_one_is_done_and_the_others_get_its_answer() {
    let catalog = Catalog::new().await;
    let token = token(&catalog, 1, None).await.id;
    let store = &catalog.store;
    let asks = (0..8).map(|_| store.begin_idempotent(token, "key", &[7; 32]));
    let outcomes: Vec<_> = futures::future::join_all(asks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Idempotent::New).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Idempotent::InProgress).count(), 7);
    store.finish_idempotent(token, "key", 202, b"{}").await.unwrap();
    let replay = store.begin_idempotent(token, "key", &[7; 32]).await.unwrap();
    assert_eq!(replay, Idempotent::Replay { status: 202, body: b"{}".to_vec() });
    assert_eq!(store.begin_idempotent(token, "key", &[8; 32]).await.unwrap(), Idempotent::Mismatch);
}

#[tokio::test]
async fn an_abandoned_key_is_free_and_an_old_one_is_forgotten() {
    let catalog = Catalog::new().await;
    let token = token(&catalog, 1, None).await.id;
    let store = &catalog.store;
    assert_eq!(store.begin_idempotent(token, "a", &[1; 32]).await.unwrap(), Idempotent::New);
    store.abandon_idempotent(token, "a").await.unwrap();
    assert_eq!(store.begin_idempotent(token, "a", &[2; 32]).await.unwrap(), Idempotent::New);
    store.finish_idempotent(token, "a", 201, b"").await.unwrap();
    store.abandon_idempotent(token, "a").await.unwrap();
    let kept = store.begin_idempotent(token, "a", &[2; 32]).await.unwrap();
    assert!(matches!(kept, Idempotent::Replay { .. }), "an answer is not abandoned");
    assert_eq!(store.sweep_idempotent(Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(store.sweep_idempotent(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn a_key_whose_worker_died_is_taken_over_by_the_same_request() {
    let catalog = Catalog::new().await;
    let token = token(&catalog, 1, None).await.id;
    let store = &catalog.store;
    store.begin_idempotent(token, "a", &[1; 32]).await.unwrap();
    let age = "UPDATE idempotency_key SET created_at = now() - interval '10 minutes'";
    catalog.superuser().await.execute(age, &[]).await.unwrap();
    assert_eq!(store.begin_idempotent(token, "a", &[2; 32]).await.unwrap(), Idempotent::Mismatch);
    assert_eq!(store.begin_idempotent(token, "a", &[1; 32]).await.unwrap(), Idempotent::New);
    assert_eq!(store.begin_idempotent(token, "a", &[1; 32]).await.unwrap(), Idempotent::InProgress);
}
