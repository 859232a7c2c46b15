//! No row, large object, temporary table or query text of one tenant ever reaches another, whatever their isolations.
//!
//! What one tenant can see of another all the same is a property of PostgreSQL, and is asserted below as documented:
//!
//! | what | two schemas of one database | two databases of one server | servers of their own |
//! |---|---|---|---|
//! | rows, large objects, temporary tables, query text | never | never | never |
//! | names of schemas, tables, columns, functions | visible | hidden | hidden |
//! | bodies of functions and views | visible | hidden | hidden |
//! | sizes, estimates and counters of tables | visible | hidden | hidden |
//! | owners and ids of large objects | visible | hidden | hidden |
//! | NOTIFY channels | shared: payloads cross | own | own |
//! | advisory locks | shared | own | own |
//! | names and settings of roles | visible | visible | hidden |
//! | names and counters of databases | the same database | visible, sizes hidden | hidden |
//! | that there are sessions: role, database, `application_name` | visible | visible | hidden |
//! | locks in `pg_locks`, by object id | visible | visible | hidden |
//!
//! Names of roles, databases and schemas bear ids, never slugs, so they say that there is a neighbour, not who.

use tenantry_api::{CreateTenant, Tenant};
use tenantry_domain::{HomeId, HomeNames, Isolation, Limits, RoleName, RolloutState, TargetState};
use tenantry_tests::{Admin, HomeSession, World, files, sqlstate};
use tokio_postgres::Config;
use uuid::Uuid;

/// How close two tenants live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Database,
    Server,
    Nothing,
}

/// One tenant, logged in and with something to hide.
struct Resident {
    tenant: Tenant,
    login: Config,
    session: HomeSession,
    names: HomeNames,
    schema: String,
    large_object: Option<u32>,
}

impl Resident {
    fn database(&self) -> &str {
        self.login.get_dbname().unwrap()
    }

    fn roles(&self) -> Vec<&RoleName> {
        self.names.all().to_vec()
    }

    fn secret(&self) -> String {
        format!("the secret of {}", self.tenant.slug)
    }
}

/// Two tenants of each isolation.
struct Town {
    world: World<'static>,
    admin: Admin,
    residents: Vec<Resident>,
}

impl Town {
    async fn settle(admin: Admin) -> Self {
        let world = World::builder().admin(admin).dedicated(2).start().await;
        let mut residents = Vec::new();
        for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
            for number in 0..2 {
                let temporary = |create: &mut CreateTenant| {
                    create.overrides = Limits { temporary_tables: Some(true), ..Limits::default() }.into();
                };
                let slug = format!("{isolation}-{number}");
                let tenant = world.tenant(&slug).isolation(isolation).with(temporary).await;
                residents.push(move_in(&world, tenant).await);
            }
        }
        Self { world, admin, residents }
    }

    fn pairs(&self) -> impl Iterator<Item = (&Resident, &Resident, Nearness)> {
        let all = || self.residents.iter();
        let pairs = all().flat_map(move |one| all().map(move |other| (one, other)));
        pairs.filter(|(one, other)| one.tenant.id != other.tenant.id).map(|(one, other)| {
            let nearness = if one.tenant.cluster != other.tenant.cluster {
                Nearness::Nothing
            } else if one.database() == other.database() {
                Nearness::Database
            } else {
                Nearness::Server
            };
            (one, other, nearness)
        })
    }

    /// The large objects of everybody who lives in one's database.
    fn numbers_in(&self, one: &Resident) -> Vec<u32> {
        let lives_there = |it: &&Resident| it.tenant.cluster == one.tenant.cluster && it.database() == one.database();
        self.residents.iter().filter(lives_there).filter_map(|it| it.large_object).collect()
    }

    async fn end(self) {
        drop(self.residents);
        self.world.end().await;
    }
}

async fn move_in(world: &World<'_>, tenant: Tenant) -> Resident {
    let (login, session) = (world.login(&tenant).await, world.connect(&tenant).await);
    let home = session.role().strip_prefix("h_").unwrap().strip_suffix("_a").unwrap();
    let names = HomeNames::of(HomeId::new(Uuid::parse_str(home).unwrap()));
    let schema = session.one("SELECT current_schema::text").await;
    let mut resident = Resident { tenant, login, session, names, schema, large_object: None };
    let secret = resident.secret();
    let session = &resident.session;
    session.run(&format!("INSERT INTO notes (body) VALUES ('{secret}')")).await;
    session.run(&format!("CREATE TEMPORARY TABLE hidden AS SELECT '{secret}' AS body")).await;
    let made = session.query_one(&format!("SELECT lo_from_bytea(0, '{secret}')"), &[]).await;
    resident.large_object = match made {
        Ok(row) => Some(row.get(0)),
        // Where tenants share a database they make no large objects, if the admin's rights can forbid it.
        Err(error) => {
            assert_eq!((sqlstate(&error).as_str(), resident.tenant.isolation), ("42501", Isolation::Schema));
            None
        }
    };
    // What others would see as the last statement of this session.
    resident.session.run(&format!("SELECT 'the query of {}'", resident.tenant.slug)).await;
    resident
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_into_another_home() {
    for admin in Admin::ALL {
        let town = Town::settle(admin).await;
        for (mine, theirs, nearness) in town.pairs() {
            // With my password into their database, and with it as one of their roles.
            let mut config = mine.login.clone();
            config.dbname(theirs.database());
            match HomeSession::log_in(&config).await {
                Ok(_) => assert_eq!(nearness, Nearness::Database),
                Err(error) if nearness == Nearness::Server => assert_eq!(sqlstate(&error), "42501"),
                Err(error) => assert_eq!(sqlstate(&error), "3D000", "no such database on my server"),
            }
            for role in theirs.roles() {
                let mut config = theirs.login.clone();
                config.user(role.as_str()).password(mine.login.get_password().unwrap());
                let refused = HomeSession::log_in(&config).await.expect_err("a wrong password");
                assert!(["28P01", "28000"].contains(&sqlstate(&refused).as_str()), "{refused:?}");
            }
            // The stamp is theirs.
            let attach = format!("SELECT tenantry.attach('{}', 1)", theirs.tenant.id);
            assert_eq!(mine.session.refusal(&attach).await, "TN001");
        }
        for resident in &town.residents {
            let stamps = resident.session.texts("SELECT tenant::text FROM tenantry.stamp").await;
            assert_eq!(stamps, [resident.tenant.id.to_string()]);
            resident.session.run(&format!("SELECT tenantry.attach('{}', 1)", resident.tenant.id)).await;
        }
        town.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_another() {
    for admin in Admin::ALL {
        let town = Town::settle(admin).await;
        for (mine, theirs, nearness) in town.pairs() {
            // A role of another server is not even known here.
            let unknown = nearness == Nearness::Nothing;
            let expected = |known, otherwise| if unknown { otherwise } else { known };
            for role in theirs.roles() {
                for (sql, sqlstates) in [
                    (format!("SET ROLE \"{role}\""), expected("42501", "22023")),
                    (format!("SET SESSION AUTHORIZATION \"{role}\""), expected("42501", "22023")),
                    (format!("DO $$ BEGIN EXECUTE 'SET ROLE \"{role}\"'; END $$"), expected("42501", "22023")),
                    (format!("DO $$ BEGIN RESET ROLE; SET ROLE \"{role}\"; END $$"), expected("42501", "22023")),
                    (format!("SELECT set_config('role', '{role}', false)"), expected("42501", "22023")),
                    (format!("GRANT \"{role}\" TO CURRENT_USER"), expected("42501", "42704")),
                    (format!("ALTER ROLE \"{role}\" PASSWORD 'mine'"), expected("42501", "42704")),
                    (format!("ALTER ROLE \"{role}\" SET search_path = nowhere"), expected("42501", "42704")),
                    (format!("DROP ROLE \"{role}\""), "42501"),
                    (format!("REASSIGN OWNED BY \"{role}\" TO CURRENT_USER"), expected("42501", "42704")),
                ] {
                    assert_eq!(mine.session.refusal(&sql).await, sqlstates, "{admin:?} {nearness:?}: {sql}");
                }
            }
        }
        for resident in &town.residents {
            // Nor more than one was.
            for sql in [
                "CREATE ROLE mine",
                "CREATE DATABASE mine",
                "CREATE SCHEMA mine",
                "CREATE TABLE mine (a int)",
                "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE TABLE extensions.mine (a int)",
                "CREATE TABLE tenantry.mine (a int)",
                "UPDATE tenantry.stamp SET generation = 2",
                "DELETE FROM refinery_schema_history",
                "CREATE EXTENSION dblink",
                "ALTER SYSTEM SET work_mem = '1GB'",
                "SET SESSION AUTHORIZATION postgres",
                "COPY notes TO PROGRAM 'cat'",
                "COPY notes FROM '/etc/passwd'",
                "SELECT pg_read_file('/etc/passwd')",
                "SELECT pg_ls_dir('.')",
                "SELECT rolpassword FROM pg_authid",
                "SELECT pg_reload_conf()",
            ] {
                assert_eq!(resident.session.refusal(sql).await, "42501", "{sql}");
            }
        }
        town.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_large_object_temporary_table_or_query_text_crosses() {
    for admin in Admin::ALL {
        let town = Town::settle(admin).await;
        for (mine, theirs, nearness) in town.pairs() {
            let session = &mine.session;
            let (schema, near) = (&theirs.schema, nearness == Nearness::Database);
            if near {
                for sql in [
                    format!("SELECT FROM \"{schema}\".notes"),
                    format!("SELECT FROM \"{schema}\".counted"),
                    format!("INSERT INTO \"{schema}\".notes (body) VALUES ('x')"),
                    format!("CREATE TABLE \"{schema}\".mine (a int)"),
                    format!("SELECT \"{schema}\".word_count('x')"),
                    format!("DO $$ BEGIN LOCK TABLE \"{schema}\".notes; END $$"),
                    format!("DROP SCHEMA \"{schema}\" CASCADE"),
                    format!("GRANT USAGE ON SCHEMA \"{schema}\" TO CURRENT_USER"),
                    format!(
                        "ALTER DEFAULT PRIVILEGES FOR ROLE \"{}\" GRANT SELECT ON TABLES TO PUBLIC",
                        theirs.names.owner
                    ),
                ] {
                    assert_eq!(session.refusal(&sql).await, "42501", "{sql}");
                }
            } else {
                let elsewhere = format!("SELECT FROM \"{}\".\"{schema}\".notes", theirs.database());
                assert_eq!(session.refusal(&elsewhere).await, "0A000", "{elsewhere}");
            }
            // By a search path.
            session.run(&format!("SET search_path = \"{schema}\"")).await;
            if schema == &mine.schema {
                let bodies = session.texts("SELECT body FROM notes").await;
                assert!(!bodies.contains(&theirs.secret()), "{bodies:?}");
            } else {
                assert_eq!(session.refusal("SELECT FROM notes").await, "42P01", "{schema}");
            }
            session.run(&format!("SELECT tenantry.attach('{}', 1)", mine.tenant.id)).await;

            // By a large object's number.
            if let Some(oid) = theirs.large_object {
                // Another database has its own numbers: somebody's in mine may be the same.
                if near || !town.numbers_in(mine).contains(&oid) {
                    for sql in [format!("SELECT lo_get({oid})"), format!("SELECT lo_unlink({oid})")] {
                        // Not mine, or not there; or I may not even ask.
                        let refused = if near || mine.large_object.is_none() { "42501" } else { "42704" };
                        assert_eq!(session.refusal(&sql).await, refused, "{sql}");
                    }
                }
            }
            assert_eq!(session.refusal("SELECT data FROM pg_largeobject").await, "42501");

            // By the name of a temporary schema.
            let hidden = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()";
            let hidden: String = theirs.session.one(hidden).await;
            let look = session.query(&format!("SELECT body FROM {hidden}.hidden"), &[]).await;
            match look {
                Ok(rows) => {
                    let bodies: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                    assert_eq!(bodies, [mine.secret()], "a number of one's own in another database");
                    assert!(!near);
                }
                Err(error) if near => assert_eq!(sqlstate(&error), "42501"),
                Err(error) => assert!(["42501", "42P01", "3F000"].contains(&sqlstate(&error).as_str()), "{error:?}"),
            }

            // In what the server says of sessions and of data.
            let pattern = format!("'%query of {}'", theirs.tenant.slug);
            for (what, sql) in [
                ("query", format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE {pattern}")),
                (
                    "statistics",
                    format!(
                        "SELECT count(*) FROM pg_stats WHERE schemaname = '{schema}' AND '{schema}' <> current_schema"
                    ),
                ),
                (
                    "address",
                    format!(
                        "SELECT count(client_addr) FROM pg_stat_activity WHERE usename = '{}'",
                        theirs.session.role()
                    ),
                ),
            ] {
                assert_eq!(session.one::<i64>(&sql).await, 0, "{what} of {}", theirs.tenant.slug);
            }
            // And their work is not disturbed.
            let pid: i32 = theirs.session.one("SELECT pg_backend_pid()").await;
            if nearness != Nearness::Nothing {
                for verb in ["terminate", "cancel"] {
                    assert_eq!(session.refusal(&format!("SELECT pg_{verb}_backend({pid})")).await, "42501");
                }
            }
            theirs.session.run(&format!("SELECT 'the query of {}'", theirs.tenant.slug)).await;
        }
        for resident in &town.residents {
            let bodies = resident.session.texts("SELECT body FROM notes ORDER BY id").await;
            assert_eq!(bodies, ["the first note".to_owned(), resident.secret()]);
            assert_eq!(resident.session.texts("SELECT body FROM hidden").await, [resident.secret()]);
            if let Some(oid) = resident.large_object {
                let content: Vec<u8> = resident.session.one(&format!("SELECT lo_get({oid})")).await;
                assert_eq!(content, resident.secret().into_bytes());
            }
            let shares = resident.tenant.isolation == Isolation::Schema;
            assert_eq!(resident.large_object.is_none(), shares && town.admin == Admin::Superuser);
        }
        town.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_visible_is_what_is_documented() {
    for admin in Admin::ALL {
        let town = Town::settle(admin).await;
        for (mine, theirs, nearness) in town.pairs() {
            let (near, same_server) = (nearness == Nearness::Database, nearness != Nearness::Nothing);
            let session = &mine.session;
            let schema = &theirs.schema;
            let is_seen = async |sql: &str| session.one::<i64>(sql).await > 0;
            let (role, database) = (theirs.session.role(), theirs.database());
            let in_schema = |catalog: &str, column: &str, and: &str| {
                format!(
                    "SELECT count(*) FROM {catalog} WHERE {column} = (SELECT oid FROM pg_namespace
                     WHERE nspname = '{schema}' AND '{schema}' <> current_schema) {and}"
                )
            };
            for (what, seen, sql) in [
                ("tables", near, in_schema("pg_class", "relnamespace", "AND relname = 'notes'")),
                ("function bodies", near, in_schema("pg_proc", "pronamespace", "AND prosrc LIKE '%string_to_array%'")),
                ("sizes", near, in_schema("pg_class", "relnamespace", "AND pg_total_relation_size(oid) > 0")),
                (
                    "views",
                    near,
                    format!(
                        "SELECT count(*) FROM pg_views WHERE schemaname = '{schema}' AND '{schema}' <> current_schema
                             AND definition LIKE '%word_count%'"
                    ),
                ),
                (
                    "counters of tables",
                    near,
                    format!(
                        "SELECT count(*) FROM pg_stat_user_tables WHERE schemaname = '{schema}'
                             AND '{schema}' <> current_schema"
                    ),
                ),
                (
                    "owners of large objects",
                    near && theirs.large_object.is_some(),
                    format!("SELECT count(*) FROM pg_largeobject_metadata WHERE pg_get_userbyid(lomowner) = '{role}'"),
                ),
                ("roles", same_server, format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")),
                (
                    "settings of roles",
                    same_server,
                    format!("SELECT count(rolconfig) FROM pg_roles WHERE rolname = '{role}'"),
                ),
                (
                    "databases",
                    same_server,
                    format!("SELECT count(*) FROM pg_stat_database WHERE datname = '{database}'"),
                ),
                (
                    "sessions",
                    same_server,
                    format!(
                        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND datname = '{database}'"
                    ),
                ),
            ] {
                assert_eq!(is_seen(&sql).await, seen, "{admin:?} {nearness:?}: {what}: {sql}");
            }
            if nearness == Nearness::Server {
                assert_eq!(session.refusal(&format!("SELECT pg_database_size('{database}')")).await, "42501");
            }

            // The locks and channels of a database are everybody's in it.
            theirs.session.run("SELECT pg_advisory_lock(7)").await;
            let lock = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7";
            assert_eq!(is_seen(lock).await, same_server);
            let free: bool = session.one("SELECT pg_try_advisory_lock(7)").await;
            assert_eq!(free, !near);
            session.run("SELECT pg_advisory_unlock_all()").await;
            theirs.session.run("SELECT pg_advisory_unlock_all()").await;
            assert_eq!(is_heard(mine, theirs).await, near, "{nearness:?}");

            // Names bear ids only.
            for role in theirs.roles() {
                assert!(!role.as_str().contains(theirs.tenant.slug.as_str()));
            }
            assert!(!database.contains(theirs.tenant.slug.as_str()));
        }
        town.end().await;
    }
}

/// Whether a notification of one tenant reaches another that listens to the same channel.
async fn is_heard(mine: &Resident, theirs: &Resident) -> bool {
    let (client, mut connection) = mine.login.connect(tokio_postgres::NoTls).await.unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let listening = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                let _ = heard.send(notification.payload().to_owned());
            }
        }
    });
    client.batch_execute("LISTEN gossip").await.unwrap();
    theirs.session.run("NOTIFY gossip, 'theirs'").await;
    // One's own comes in any case, and after the other.
    client.batch_execute("NOTIFY gossip, 'mine'").await.unwrap();
    let mut payloads = Vec::new();
    while let Some(payload) = hears.recv().await {
        payloads.push(payload);
        if payloads.last().is_some_and(|payload| payload == "mine") {
            break;
        }
    }
    drop(client);
    listening.await.unwrap();
    payloads.contains(&"theirs".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_migration_takes_nothing_from_a_neighbour() {
    for admin in Admin::ALL {
        let town = Town::settle(admin).await;
        let world = &town.world;
        // Spelled so that no reading of the file can tell. It runs in every home, as that home's owner, and gathers all
        // that it can reach.
        let hostile = "CREATE TABLE loot (body text);
DO $$
DECLARE
    victim record;
BEGIN
    FOR victim IN SELECT nspname FROM pg_namespace LOOP
        BEGIN
            EXECUTE format('INSERT INTO loot SELECT body FROM %I.notes', victim.nspname);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        BEGIN
            EXECUTE format('INSERT INTO loot SELECT body FROM %I.hidden', victim.nspname);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR victim IN SELECT oid FROM pg_largeobject_metadata LOOP
        BEGIN
            INSERT INTO loot SELECT convert_from(lo_get(victim.oid), 'UTF8');
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR victim IN SELECT rolname FROM pg_roles WHERE rolname <> current_user LOOP
        BEGIN
            EXECUTE format('SET RO' || 'LE %I', victim.rolname);
            INSERT INTO loot VALUES ('became ' || victim.rolname);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER', victim.rolname);
            INSERT INTO loot VALUES ('joined ' || victim.rolname);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    INSERT INTO loot SELECT query FROM pg_stat_activity WHERE query LIKE '%the query of%';
END
$$;
";
        let set = world.push("hostile", &files::notes_and("V4__gather.sql", hostile)).await;
        let rollout = world.begin_rollout(&set).await;
        let ended = world.rolled_out(rollout.id).await;
        let targets =
            world.client().list_rollout_targets(rollout.id, &tenantry_api::ListTargets::default()).await.unwrap();
        for (resident, target) in town.residents.iter().zip(&targets.items) {
            assert_eq!(target.tenant, resident.tenant.id);
            if target.state == TargetState::Failed {
                // It changed roles and was found out; nothing of it stays.
                assert_eq!(resident.session.refusal("SELECT FROM loot").await, "42P01");
                continue;
            }
            let loot = resident.session.texts("SELECT body FROM loot").await;
            // A cursor reads roles in batches, so a file that became its own migrator may find itself its owner again at
            // the end. Those two are all that it can be.
            let own = [
                resident.secret(),
                "the first note".to_owned(),
                format!("became {}", resident.names.migrator),
                format!("became {}", resident.names.owner),
            ];
            assert!(loot.iter().all(|body| own.contains(body)), "{}: {loot:?}", resident.tenant.slug);
        }
        assert!(matches!(ended.state, RolloutState::Succeeded | RolloutState::Failed));

        // One that only goes back to the role that it came from is refused everywhere, and leaves nothing.
        let reset = "CREATE TABLE left_behind (a int);\nDO $$ BEGIN EXECUTE 'RESET RO' || 'LE'; END $$;\n";
        let mut files = files::notes_and("V4__gather.sql", hostile);
        files.push(("V5__reset.sql".to_owned(), reset.to_owned()));
        let set = world.push("reset", &files).await;
        let rollout = world.begin_rollout(&set).await;
        let ended = world.rolled_out(rollout.id).await;
        assert_eq!((ended.state, ended.counts.failed), (RolloutState::Failed, 6));
        for resident in &town.residents {
            assert_eq!(resident.session.refusal("SELECT FROM left_behind").await, "42P01");
            let bodies = resident.session.texts("SELECT body FROM notes ORDER BY id").await;
            assert_eq!(bodies, ["the first note".to_owned(), resident.secret()]);
        }
        town.end().await;
    }
}
