-- Whoever acted by a token is entered as `token/<name>/<id>`, because names are not unique. Entries are found by the
-- name alone as well: the index serves what begins with it.

DROP INDEX audit_log_by_actor;
CREATE INDEX audit_log_by_actor ON audit_log (actor text_pattern_ops, id);
