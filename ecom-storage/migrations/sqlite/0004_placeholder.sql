-- A placeholder: the migration of another branch takes its place.
SELECT 1;
