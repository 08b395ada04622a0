from markupsafe import escape


def handler(event, context):
    return {"text": str(escape(event["text"]))}
