//! Shops on PostgreSQL and MariaDB: the place of their databases, and how many connections a server has.

use std::time::{Duration, Instant};

use ecom::Shops;
use ecom::adapters::sqlx::{self, AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};

use super::*;

/// Returns the part of a URL before the name of the database, and the name.
fn split(url: &str) -> (&str, &str) {
    url.rsplit_once('/').unwrap()
}

pub async fn on_postgres() -> Ground {
    let database = test_servers::postgres().await;
    let url = format!("{}?schema={{shop}}", database.url);
    Ground { url, dir: tempfile::tempdir().unwrap(), server: Some(database) }
}

pub async fn on_mysql() -> Ground {
    let database = test_servers::mysql().await;
    let url = format!("{}_{{shop}}", database.url);
    Ground { url, dir: tempfile::tempdir().unwrap(), server: Some(database) }
}

impl Ground {
    pub fn is_server(&self) -> bool {
        self.server.is_some()
    }

    fn is_mysql(&self) -> bool {
        self.url.starts_with("mysql")
    }

    /// Returns the number of connections that the server has to the databases of the shops.
    pub async fn connections(&self) -> usize {
        let Some(database) = &self.server else { return 0 };
        let name = split(&database.url).1;
        let count: i64 = if self.is_mysql() {
            let text = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db LIKE '{name}\\_%'");
            let mut c = MySqlConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut c).await.unwrap()
        } else {
            // Neither autovacuum nor this connection and the earlier ones of its kind, whose ends the server may not
            // have noticed yet.
            let text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND \
                        backend_type = 'client backend' AND application_name <> 'counting'";
            let mut options: sqlx::postgres::PgConnectOptions = database.url.parse().unwrap();
            options = options.application_name("counting");
            let mut c = PgConnection::connect_with(&options).await.unwrap();
            sqlx::query_scalar(text).fetch_one(&mut c).await.unwrap()
        };
        usize::try_from(count).unwrap()
    }

    /// Removes what the database of the test does not contain.
    pub async fn clear(self) {
        let Some(database) = &self.server else { return };
        if !self.is_mysql() {
            return;
        }
        let name = split(&database.url).1;
        let text = "SELECT CAST(schema_name AS CHAR) FROM information_schema.schemata WHERE schema_name LIKE ?";
        let mut c = MySqlConnection::connect(&database.url).await.unwrap();
        let names: Vec<String> = sqlx::query_scalar(text).bind(format!("{name}\\_%")).fetch_all(&mut c).await.unwrap();
        for name in names {
            c.execute(AssertSqlSafe(format!("DROP DATABASE `{name}`"))).await.unwrap();
        }
    }
}

/// Lost connections of the pool cost a shop at most the call under way, and none of its rows go to another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_the_server_closes_are_replaced() {
    for ground in [on_postgres().await, on_mysql().await] {
        let shops = ground.shops(limits(), 3);
        let (a, b) = (shops.create("acme").await.unwrap(), shops.create("bolt").await.unwrap());
        add(&a, "A").await;
        add(&b, "B").await;
        for _ in 0..3 {
            let database = ground.server.as_ref().unwrap();
            if ground.is_mysql() {
                let name = split(&database.url).1;
                let mut c = MySqlConnection::connect(&database.url).await.unwrap();
                let text = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db LIKE ?";
                let ids: Vec<i64> =
                    sqlx::query_scalar(text).bind(format!("{name}\\_%")).fetch_all(&mut c).await.unwrap();
                for id in ids {
                    let _ = c.execute(AssertSqlSafe(format!("KILL {id}"))).await;
                }
            } else {
                let mut c = PgConnection::connect(&database.url).await.unwrap();
                let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \
                            current_database() AND pid <> pg_backend_pid()";
                c.execute(text).await.unwrap();
            }
            // The statement that finds the connection dead may fail; the following ones do not.
            for (shop, title) in [(&a, "A"), (&b, "B"), (&a, "A"), (&b, "B")] {
                wait_until("the shop reads again", async || {
                    shop.products().list(&ProductListQuery::default()).await.is_ok()
                })
                .await;
                assert_eq!(titles(shop).await, [title]);
            }
        }
        shops.close().await;
        ground.clear().await;
    }
}

/// One shop that uses its connections for long leaves some to the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shop_leaves_connections_to_the_others() {
    for ground in [on_postgres().await, on_mysql().await] {
        let shops = ground.shops(limits().connections_per_shop(2), 3);
        let (a, b) = (shops.create("acme").await.unwrap(), shops.create("bolt").await.unwrap());
        let held = [a.begin().await.unwrap(), a.begin().await.unwrap()];
        let waiting = tokio::spawn({
            let a = a.clone();
            async move { titles(&a).await }
        });
        assert_eq!(titles(&b).await, Vec::<String>::new());
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.await.unwrap(), Vec::<String>::new());
        shops.close().await;
        ground.clear().await;
    }
}

/// The locks of one shop are not those of another in the same database.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r03_shops_do_not_wait_for_each_others_locks() {
    for ground in [on_postgres().await, on_mysql().await] {
        let shops = ground.shops(limits(), 4);
        let (a, b) = (shops.create("acme").await.unwrap(), shops.create("bolt").await.unwrap());
        let tree = |name: &str| ecom::catalog::CategoryInput { name: name.to_owned(), ..Default::default() };
        let mut held = a.begin().await.unwrap();
        a.categories().create_in(&mut held, &tree("Tea")).await.unwrap();
        // It would wait for the tree of the first shop until its time limit.
        b.categories().create(&tree("Tea")).await.unwrap();
        held.commit().await.unwrap().run().await;
        shops.close().await;
        ground.clear().await;
    }
}

/// Measures many shops on a server of its own: `tests/run shops`. `ECOM_SHOPS` is the number of shops, 1,000 by default.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes: `tests/run shops` runs it"]
async fn a_thousand_shops_on_postgres() {
    const CONNECTIONS: usize = 20;
    const CALLERS: usize = 20;
    const FEW: usize = 10;
    const SECONDS: u64 = 5;
    let count = test_servers::given("ECOM_SHOPS").map_or(1_000, |n| n.parse().unwrap());
    let server = test_servers::Server::postgres().await;
    let url = format!("{}?schema={{shop}}", server.url());
    let name = |n: usize| format!("shop_{n}");
    let open = |max_open: usize| {
        let url = url.clone();
        let limits = ShopsLimits::default().max_open(max_open).connections_per_shop(CONNECTIONS);
        Shops::new(limits, move |_| builder(&url, CONNECTIONS).search("none")).unwrap()
    };

    let shops = open(count);
    let start = Instant::now();
    let mut products = Vec::new();
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        let shop = shops.create(&name(n)).await.unwrap();
        times.push(start.elapsed());
        products.push(add(&shop, &format!("Lamp of {n}")).await.id);
    }
    println!("{count} shops created in {:.1?}: {}", start.elapsed(), spread(&mut times));
    shops.close().await;

    let shops = open(count);
    let mut times = Vec::new();
    let mut kept = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        kept.push(shops.get(&name(n)).await.unwrap());
        times.push(start.elapsed());
    }
    println!("a shop that exists is opened in {}", spread(&mut times));
    let process = memory();
    println!("memory of the process with {count} open shops: {} MiB", process >> 20);
    let mut probe = PgConnection::connect(&server.url()).await.unwrap();
    let text = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> \
                pg_backend_pid()";
    let mut most: i64 = 0;
    let kept = Arc::new(kept);
    let products = Arc::new(products);
    let mut ratios = [Vec::new(), Vec::new()];
    // All sides in turn, so that they meet the same machine. Fewer shops than connections keep theirs.
    for round in 0..5 {
        let mut rates = [0.0; 3];
        for (side, among) in [count, FEW.min(count), 1].into_iter().enumerate() {
            let mut callers = tokio::task::JoinSet::new();
            let start = Instant::now();
            for caller in 0..CALLERS {
                let (kept, products) = (kept.clone(), products.clone());
                callers.spawn(async move {
                    let mut done = 0_u32;
                    let mut at = caller * 7_919;
                    while start.elapsed() < Duration::from_secs(SECONDS) {
                        at = (at + 104_729) % among;
                        let read = kept[at].products().get_fresh(products[at], IncludeDeleted::No).await.unwrap();
                        assert_eq!(read.title, format!("Lamp of {at}"));
                        done += 1;
                    }
                    done
                });
            }
            let mut done = 0;
            while let Some(n) = callers.join_next().await {
                done += n.unwrap();
            }
            rates[side] = f64::from(done) / start.elapsed().as_secs_f64();
            most = most.max(sqlx::query_scalar(text).fetch_one(&mut probe).await.unwrap());
        }
        let [all, few, one] = rates;
        println!("round {round}: {all:.0} reads/s over {count} shops, {few:.0} over {FEW}, {one:.0} of one shop");
        ratios[0].push(all / one);
        ratios[1].push(few / one);
    }
    for (ratios, among) in ratios.iter_mut().zip([count, FEW]) {
        ratios.sort_by(f64::total_cmp);
        println!("by id over {among} shops against one shop, {CONNECTIONS} connections: {:.2}", ratios[2]);
    }
    println!("connections of the server: at most {most}");
    assert!(most <= i64::try_from(CONNECTIONS).unwrap(), "{most}");
    drop(kept);

    // A tenth of them open at a time: every second call opens a shop and closes another one.
    let few = open((count / 10).max(1));
    let start = Instant::now();
    for n in (0..count).chain((0..count).rev()) {
        let shop = few.get(&name(n)).await.unwrap();
        assert_eq!(titles(&shop).await, [format!("Lamp of {n}")]);
    }
    println!("{} calls over {count} shops, of which {} are open: {:.1?}", 2 * count, count / 10, start.elapsed());
    assert!(few.status().open <= (count / 10).max(1));
    few.close().await;
    shops.close().await;
}

/// Returns the median and the longest time.
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("{:.1?} (median), {:.1?} (99 %), {:.1?} (longest)", at(50), at(99), at(100))
}

/// Returns the memory of this process in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}
