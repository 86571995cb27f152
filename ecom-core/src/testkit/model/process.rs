//! Operations on the process that serves the shop: time passes, and a new process takes over.

use std::sync::Arc;
use std::time::Duration;

use super::{MakeCache, Operation, Part, Runner};
use crate::clock::{ManualClock, SharedClock};
use crate::id::UuidV7Source;
use crate::port::search::NoSearch;
use crate::port::storage::Storage;
use crate::shop::{Shop, ShopParts};

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |_| Box::pin(async { Ok(()) }) };

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "let time pass",
        weight: |_| 8,
        run: |r| {
            Box::pin(async move {
                r.let_time_pass();
                Ok(())
            })
        },
    },
    Operation {
        name: "reopen shop",
        weight: |_| 4,
        run: |r| {
            Box::pin(async move {
                r.reopen_shop();
                Ok(())
            })
        },
    },
];

/// Opens a shop as a new process does, with an empty cache of its own.
pub(super) fn open(
    storage: &Arc<dyn Storage>,
    caches: &MakeCache,
    clock: &Arc<ManualClock>,
    ids: &Arc<UuidV7Source>,
) -> Shop {
    let clock: SharedClock = clock.clone();
    Shop::new(ShopParts {
        cache: caches(clock.clone()),
        clock,
        ids: ids.clone(),
        ..ShopParts::new(storage.clone(), Arc::new(NoSearch))
    })
    .unwrap()
}

impl Runner<'_> {
    /// Lets every entry of the cache expire, and sometimes all open carts too.
    fn let_time_pass(&mut self) {
        let time = Duration::from_secs(if self.chance(15) { 31 * 86_400 } else { 4_000 });
        self.begins(time);
        self.clock.advance(time);
    }

    fn reopen_shop(&mut self) {
        self.begins(());
        self.shop = open(&self.storage, self.caches, &self.clock, &self.ids);
    }
}
