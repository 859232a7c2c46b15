-- phase: expand

ALTER TYPE delay_cause ADD VALUE 'late_aircraft';
ALTER TYPE delay_cause ADD VALUE 'crew' AFTER 'carrier';
