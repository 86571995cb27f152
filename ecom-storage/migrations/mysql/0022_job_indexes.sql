-- No statement looks for due jobs of all kinds any more.
--
-- MySQL commits each of these statements by itself, so that a migration that was cut off runs again: a step is skipped
-- if it was done.
SET @ecom_step = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics
            WHERE table_schema = DATABASE() AND table_name = 'jobs' AND index_name = 'jobs_due'),
    'ALTER TABLE jobs DROP INDEX jobs_due',
    'DO 0');
PREPARE ecom_step FROM @ecom_step;
EXECUTE ecom_step;
DEALLOCATE PREPARE ecom_step;
