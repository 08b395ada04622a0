import psycopg2


def handler(event, context):
    return {"libpq": psycopg2.__libpq_version__}
