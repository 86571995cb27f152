-- Sums of the figures of products over spans of 4, 16 and 64 days, so that a report over a long range reads few rows.
-- The background work makes them after this migration, because processes of the release before go on replacing figures
-- meanwhile, and do not know the rollups. For each length of spans, a day with sales has a column: the number of days
-- with sales that its span had when it was rolled up. Every release replaces the figures of a day by deleting the row
-- of the day and inserting it again. The columns are 0 then, so that reports no longer read the rollups over that day.
ALTER TABLE sales_days
    ADD COLUMN rolled_up_4 BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN rolled_up_16 BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN rolled_up_64 BIGINT NOT NULL DEFAULT 0;

CREATE TABLE product_rollups (
    -- The length of the span, and its first day.
    days           INTEGER NOT NULL CHECK (days >= 1),
    first_day      DATE    NOT NULL,
    currency       TEXT    NOT NULL CHECK (length(currency) = 3),
    product_id     UUID    NOT NULL,
    units          BIGINT  NOT NULL CHECK (units >= 0),
    revenue        BIGINT  NOT NULL,
    canceled_units BIGINT  NOT NULL CHECK (canceled_units >= 0),
    canceled       BIGINT  NOT NULL,
    PRIMARY KEY (days, first_day, currency, product_id)
);
