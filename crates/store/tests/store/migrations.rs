//! The catalog's own schema.

use tenantry_testkit::{Namespace, Server};

use crate::catalog::connect;

#[tokio::test]
async fn programs_that_start_together_migrate_once() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let database = namespace.database("empty").await;
    let mut starts = Vec::new();
    for _ in 0..4 {
        let url = server.url(&database);
        starts.push(async move {
            let store = connect(url).await.unwrap();
            store.migrate().await.unwrap()
        });
    }
    let reports = futures::future::join_all(starts).await;
    assert_eq!(reports.iter().filter(|report| !report.applied.is_empty()).count(), 1);
    let store = connect(server.url(&database)).await.unwrap();
    assert!(store.pending_migrations().await.unwrap().is_empty());
    assert!(store.migrate().await.unwrap().applied.is_empty());
    let comments = "SELECT count(*) FROM pg_class
                     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'refinery_schema_history'
                       AND obj_description(oid) IS NULL";
    let bare: i64 = server.connect(&database).await.query_one(comments, &[]).await.unwrap().get(0);
    assert_eq!(bare, 0, "every table says what it holds");
}

#[tokio::test]
async fn an_empty_catalog_names_what_it_lacks() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let database = namespace.database("empty").await;
    let store = connect(server.url(&database)).await.unwrap();
    let pending = store.pending_migrations().await.unwrap();
    assert!(pending.len() >= 5);
    assert!(pending[0].starts_with("V1__"));
}
