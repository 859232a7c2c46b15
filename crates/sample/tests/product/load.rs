//! The loader against the counts of the source.

use crate::home::{Home, PLACES, Place, number, versions};
use tenantry_sample::{Dataset, Loaded, SampleError};
use tokio_postgres::Client;

async fn load(client: &mut Client, data: &Dataset, carrier: &str) -> Result<Loaded, SampleError> {
    let transaction = client.transaction().await.unwrap();
    let loaded = tenantry_sample::load(&transaction, data, carrier).await?;
    transaction.commit().await.unwrap();
    Ok(loaded)
}

#[tokio::test]
async fn every_airline_arrives_whole() {
    let data = Dataset::read().unwrap();
    for (carrier, expected) in data.flights_by_carrier() {
        let home = Home::migrated(Place::Schema).await;
        let mut client = home.client().await;
        let loaded = load(&mut client, &data, carrier).await.unwrap();
        assert_eq!(loaded, Loaded { flights: expected as u64, already: false }, "{carrier}");
        let of = |wanted: fn(&tenantry_sample::data::Flight) -> bool| {
            i64::try_from(data.flights_of(carrier).filter(|flight| wanted(flight)).count()).unwrap()
        };
        let cancelled = number(&client, "SELECT count(*) FROM flights WHERE status = 'cancelled'").await;
        assert_eq!(cancelled, of(tenantry_sample::data::Flight::is_cancelled), "{carrier}");
        let nameless = number(&client, "SELECT count(*) FROM flights WHERE tail_number IS NULL").await;
        assert_eq!(nameless, of(|flight| flight.tail_number.is_none()), "{carrier}");
        let late = number(&client, "SELECT coalesce(sum(arrival_delay_minutes), 0) FROM flights").await;
        let expected_late: i32 = data.flights_of(carrier).filter_map(|flight| flight.arrival_delay_minutes).sum();
        assert_eq!(late, i64::from(expected_late), "{carrier}");
    }
}

#[tokio::test]
async fn unlisted_destinations_and_aircraft_get_stand_ins() {
    let data = Dataset::read().unwrap();
    for place in PLACES {
        let home = Home::migrated(place).await;
        let mut client = home.client().await;
        assert_eq!(load(&mut client, &data, "B6").await.unwrap().flights, 4_427);
        let unlisted = client.query("SELECT code FROM airports WHERE NOT listed ORDER BY code", &[]).await.unwrap();
        let unlisted: Vec<String> = unlisted.iter().map(|row| row.get(0)).collect();
        assert_eq!(unlisted, ["BQN", "PSE", "SJU"]);
        assert_eq!(number(&client, "SELECT count(*) FROM airports WHERE listed").await, 1_458);
        home.migrate(&versions(15, 15)).await;
        let unrated = "SELECT count(*) FROM flights WHERE (delay_severity IS NULL) <> (departed_at IS NULL)";
        assert_eq!(number(&client, unrated).await, 0);
    }
}

#[tokio::test]
async fn a_second_run_writes_nothing_even_at_the_same_time() {
    let data = Dataset::read().unwrap();
    let home = Home::migrated(Place::Database).await;
    let (mut first, mut second) = (home.client().await, home.client().await);
    let (one, other) = tokio::join!(load(&mut first, &data, "HA"), load(&mut second, &data, "HA"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.flights, other.flights), (31, 31));
    assert_ne!(one.already, other.already);
    assert_eq!(number(&first, "SELECT count(*) FROM flights").await, 31);
}

#[tokio::test]
async fn a_home_takes_one_airline_only() {
    let data = Dataset::read().unwrap();
    let home = Home::migrated(Place::Database).await;
    let mut client = home.client().await;
    assert!(matches!(load(&mut client, &data, "ZZ").await, Err(SampleError::UnknownCarrier { .. })));
    assert_eq!(load(&mut client, &data, "OO").await.unwrap().flights, 1);
    let refused = load(&mut client, &data, "HA").await;
    assert!(matches!(refused, Err(SampleError::OtherAirline { found, .. }) if found == "OO"));
    assert_eq!(number(&client, "SELECT count(*) FROM flights").await, 1);
}

#[tokio::test]
async fn a_load_that_fails_leaves_nothing() {
    let data = Dataset::read().unwrap();
    let home = Home::migrated(Place::Database).await;
    home.owner().await.batch_execute("ALTER TABLE flights ADD CHECK (destination <> 'HNL')").await.unwrap();
    let mut client = home.client().await;
    assert!(matches!(load(&mut client, &data, "HA").await, Err(SampleError::Database { .. })));
    assert_eq!(number(&client, "SELECT (SELECT count(*) FROM airports) + (SELECT count(*) FROM airline)").await, 0);
}
