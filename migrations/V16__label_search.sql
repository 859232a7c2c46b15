-- Tenants by a label and its value. The index on labels knows keys and values apart, and would have every tenant looked at
-- that bears the key and, anywhere, the value; it stays for keys alone.
CREATE INDEX tenant_by_label_value ON tenant USING gin (labels jsonb_path_ops);
