from cymem.cymem import Pool


def handler(event, context):
    return {"size": Pool().size}
