//! The product's schema on a real PostgreSQL, in both kinds of homes.

use crate::home::{Home, PLACES, Place, number, versions};

const FLIGHT_COLUMNS: &str =
    "flight_number, origin, destination, scheduled_departure, scheduled_arrival_local, distance_miles";
const FLIGHT_VALUES: &str = "1, 'JFK', 'SJU', '2013-01-01T10:00:00Z', '24:00', 1598";

#[tokio::test]
async fn every_file_applies_as_an_owner_without_rights_on_the_server() {
    for place in PLACES {
        let home = Home::empty(place).await;
        home.migrate(&versions(1, 15)).await;
        let client = home.client().await;
        let elsewhere = number(
            &client,
            "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE nspname <> current_schema AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')",
        )
        .await;
        assert_eq!(elsewhere, 0, "{place:?}");
    }
}

#[tokio::test]
async fn a_flight_to_nowhere_known_is_kept_and_stood_in_for() {
    for place in PLACES {
        let home = Home::migrated(place).await;
        let client = home.client().await;
        client
            .batch_execute(&format!(
                "INSERT INTO flights ({FLIGHT_COLUMNS}, tail_number) VALUES ({FLIGHT_VALUES}, 'N1')"
            ))
            .await
            .unwrap();
        assert_eq!(number(&client, "SELECT count(*) FROM airports WHERE NOT listed").await, 2);
        assert_eq!(number(&client, "SELECT count(*) FROM aircraft WHERE NOT listed").await, 1);
        client.batch_execute("INSERT INTO airline (code, name) VALUES ('ZZ', 'Test')").await.unwrap();
        let designator: String = client.query_one("SELECT designator FROM departure_board", &[]).await.unwrap().get(0);
        assert_eq!(designator, "ZZ1");
    }
}

#[tokio::test]
async fn reported_delays_are_summed_and_audited() {
    for place in PLACES {
        let home = Home::migrated(place).await;
        let client = home.client().await;
        client
            .batch_execute(&format!(
                "INSERT INTO flights ({FLIGHT_COLUMNS}) VALUES ({FLIGHT_VALUES});
                 INSERT INTO delays (flight_id, cause, minutes) SELECT id, 'crew', 10 FROM flights;
                 INSERT INTO delays (flight_id, cause, minutes) SELECT id, 'late_aircraft', 20 FROM flights;
                 UPDATE delays SET minutes = 15 WHERE minutes = 10;
                 DELETE FROM delays WHERE minutes = 20;"
            ))
            .await
            .unwrap();
        assert_eq!(number(&client, "SELECT sum(reported_delay_minutes) FROM flights").await, 15);
        let audited = "SELECT count(*) FROM audit_entries WHERE table_name = 'delays' AND action = ";
        assert_eq!(number(&client, &format!("{audited} 'INSERT'")).await, 2);
        assert_eq!(number(&client, &format!("{audited} 'UPDATE' AND before->>'minutes' = '10'")).await, 1);
        assert_eq!(number(&client, &format!("{audited} 'DELETE' AND after IS NULL")).await, 1);
    }
}

#[tokio::test]
async fn backfills_reach_the_rows_that_are_there() {
    for place in PLACES {
        let home = Home::empty(place).await;
        home.migrate(&versions(1, 4)).await;
        let client = home.client().await;
        client
            .batch_execute(&format!(
                "INSERT INTO airports VALUES ('JFK', 'Kennedy', 40, -73, 13, 'NA'), ('SJU', 'San Juan', 18, -66, 9, NULL);
                 INSERT INTO flights ({FLIGHT_COLUMNS}) VALUES ({FLIGHT_VALUES});
                 INSERT INTO delays (flight_id, cause, minutes) SELECT id, 'weather', 30 FROM flights;"
            ))
            .await
            .unwrap();
        home.migrate(&versions(5, 14)).await;
        assert_eq!(number(&client, "SELECT count(*) FROM flights WHERE cancelled AND status = 'cancelled'").await, 1);
        assert_eq!(number(&client, "SELECT sum(reported_delay_minutes) FROM flights").await, 30);
        assert_eq!(number(&client, "SELECT count(*) FROM airports WHERE time_zone IS NOT NULL").await, 0);
    }
}

#[tokio::test]
async fn the_next_migration_rates_old_and_new_flights_without_filling_the_audit() {
    for place in PLACES {
        let home = Home::migrated(place).await;
        let client = home.client().await;
        let insert = |number: i32, minutes: i32| {
            format!(
                "INSERT INTO flights ({FLIGHT_COLUMNS}, departed_at) VALUES ({number}, 'JFK', 'SJU', \
                 '2013-01-01T10:00:00Z', '12:00', 1598, '2013-01-01T10:00:00Z'::timestamptz + make_interval(mins => {minutes}))"
            )
        };
        client.batch_execute(&insert(1, 200)).await.unwrap();
        home.migrate(&versions(15, 15)).await;
        client.batch_execute(&insert(2, 14)).await.unwrap();
        let severities = client.query("SELECT delay_severity FROM flights ORDER BY id", &[]).await.unwrap();
        let severities: Vec<String> = severities.iter().map(|row| row.get(0)).collect();
        assert_eq!(severities, ["severe", "none"]);
        assert_eq!(number(&client, "SELECT count(*) FROM audit_entries").await, 0);
        client.batch_execute("UPDATE flights SET cancelled = false WHERE flight_number = 1").await.unwrap();
        assert_eq!(number(&client, "SELECT count(*) FROM audit_entries").await, 1, "the audit is on again");
    }
}

#[tokio::test]
async fn triggers_write_to_their_own_home_whatever_the_search_path() {
    let home = Home::migrated(Place::Schema).await;
    let client = home.client().await;
    client
        .batch_execute(&format!(
            "SET search_path = pg_catalog;
             INSERT INTO h_1.flights ({FLIGHT_COLUMNS}) VALUES ({FLIGHT_VALUES});
             INSERT INTO h_1.delays (flight_id, cause, minutes) SELECT id, 'crew', 10 FROM h_1.flights;"
        ))
        .await
        .unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM h_1.audit_entries").await, 2);
    assert_eq!(number(&client, "SELECT count(*) FROM h_1.destination_statistics('-infinity', 'infinity')").await, 1);
}
