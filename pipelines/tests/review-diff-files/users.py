"""The users of a shop, in SQLite."""


def by_id(db, user_id):
    return db.execute("SELECT id, name FROM users WHERE id = ?", (user_id,)).fetchone()
