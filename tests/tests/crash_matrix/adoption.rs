//! Adoptions: what was there before is never lost, whatever breaks on the way there, back, or on.

use tenantry_api::{AdoptTenant, ClusterRef, DecideOperation, Operation, Tenant, TenantRef};
use tenantry_domain::{DatabaseName, Labels, OperationKind, OperationState, SchemaVersion, Slug, TenantStatus};
use tenantry_fleet::failpoints::Action;
use tenantry_testkit::Server;
use tenantry_tests::World;

use super::arming::Arming;
use super::scenario::steps_of;
use super::within_one_process::{say, start_working_with};

/// Actions with which an operation ends as if nothing had happened, and where.
const ACTIONS: [(Action, &[&str]); 4] = [
    (Action::Abandon, &["before", "performed", "committed"]),
    (Action::Fail, &["before", "performed"]),
    (Action::Freeze, &["before", "performed"]),
    (Action::Repeat, &["performed"]),
];

/// A database that was made by hand.
async fn make(server: &Server, name: &str) {
    let root = server.connect("postgres").await;
    root.batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'old'; CREATE ROLE {name}_reader")).await.unwrap();
    root.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}")).await.unwrap();
    let inside = server.connect(name).await;
    let sql = format!(
        "SET ROLE {name}; CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
         CREATE FUNCTION word_count(body text) RETURNS integer LANGUAGE sql AS 'SELECT 1';
         CREATE VIEW counted AS SELECT id FROM notes; INSERT INTO notes (body) VALUES ('by hand');
         GRANT SELECT ON notes TO {name}_reader; RESET ROLE; CREATE TABLE of_root (id int)"
    );
    inside.batch_execute(&sql).await.unwrap();
}

/// Every object with its owner and rights, as `pg_dump` tells them.
async fn portrait(server: &Server, name: &str) -> String {
    let mut dump = tokio::process::Command::new("pg_dump");
    let dump = dump.args(["--schema-only", "--dbname", &server.url(name)]).output().await.unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let dump = String::from_utf8(dump.stdout).unwrap();
    dump.lines().filter(|line| !line.contains("restrict")).collect::<Vec<_>>().join("\n")
}

struct Breaking<'a, 's> {
    world: &'a mut World<'s>,
    arming: Arming,
    action: Action,
    moments: &'static [&'static str],
    cases: usize,
}

impl Breaking<'_, '_> {
    /// Arms every point of a kind, lets `begin` begin it, and waits until it is through.
    async fn through(
        &mut self,
        kind: OperationKind,
        begin: impl AsyncFnOnce(&World<'_>) -> (Tenant, Operation),
    ) -> Tenant {
        let points: Vec<String> = steps_of(kind)
            .steps
            .iter()
            .flat_map(|step| self.moments.iter().map(move |moment| format!("{kind}.{step}.{moment}")))
            .collect();
        for point in &points {
            self.arming.arm_for_any(point, self.action);
        }
        let (tenant, operation) = begin(self.world).await;
        let ended = self.world.settled(operation.id).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{:?} in {kind}: {ended:?}", self.action);
        for point in &points {
            self.arming.let_go_any(point);
            // A step without effect is not committed by itself.
            assert!(point.ends_with(".committed") || self.arming.is_taken_by_any(point), "{point} was not passed");
        }
        self.cases += points.len();
        self.world.show(&tenant).await
    }

    /// From now on the work is done by two replicas that pass the armed points.
    async fn work_anew(&mut self) {
        self.world.rest().await;
        start_working_with(self.world, &self.arming, |_| ()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_gets_there_and_back_whatever_breaks() {
    let server = Server::own().await;
    let mut world = World::builder().homes_on(&server).start().await;
    let cluster = ClusterRef::Id(world.main_cluster().id);
    let mut cases = 0;
    for (number, (action, moments)) in ACTIONS.into_iter().enumerate() {
        let name = format!("legacy_{number}");
        make(&server, &name).await;
        let before = portrait(&server, &name).await;
        let wish = AdoptTenant {
            slug: Slug::parse(&format!("t{number}")).unwrap(),
            name: None,
            plan: None,
            parent: None,
            labels: Labels::default(),
            cluster: cluster.clone(),
            database: DatabaseName::parse(&name).unwrap(),
            schema: None,
            baseline_version: Some(SchemaVersion(3)),
        };
        let adopt = async |world: &World<'_>| {
            let begun = world.client().adopt_tenant(&wish, None).await.unwrap();
            (begun.tenant, begun.operation)
        };
        let mut breaking = Breaking { world: &mut world, arming: Arming::new(), action, moments, cases: 0 };
        breaking.work_anew().await;
        let tenant = breaking.through(OperationKind::Adopt, adopt).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        let home = breaking.world.connect(&tenant).await;
        home.run("INSERT INTO notes (body) VALUES ('from the tenant')").await;
        drop(home);
        let cancel = async |world: &World<'_>| {
            let decision = DecideOperation::default();
            let begun = world.client().cancel_adoption(&tenant.id.into(), &decision, None).await.unwrap();
            (begun.tenant, begun.operation)
        };
        let gone = breaking.through(OperationKind::AdoptCancel, cancel).await;
        assert_eq!(gone.status, TenantStatus::Deleted);
        assert_eq!(portrait(&server, &name).await, before, "{action:?}");

        breaking.world.client().purge_tenant(&TenantRef::Id(gone.id)).await.unwrap();
        breaking.arming = Arming::new();
        breaking.work_anew().await;
        let tenant = breaking.through(OperationKind::Adopt, adopt).await;
        let confirm = async |world: &World<'_>| {
            let begun = world.client().confirm_adoption(&tenant.id.into(), None).await.unwrap();
            (begun.tenant, begun.operation)
        };
        let tenant = breaking.through(OperationKind::AdoptConfirm, confirm).await;
        let count = breaking.world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await;
        assert_eq!(count, 2, "{action:?}: no row is lost");
        cases += breaking.cases;
        breaking.world.rest().await;
        world.assert_nothing_orphaned().await;
    }
    say(&format!("crash matrix: adopt, adopt_confirm and adopt_cancel: {cases} cases, within one process"));
    world.add_replica(|_| ()).await;
    world.end().await;
}
