"""How much a request may hold; what is larger is refused before it is read or decoded."""

MAX_BODY_BYTES = 32 * 2**20  # of an HTTP request
MAX_FILE_BYTES = MAX_BODY_BYTES * 3 // 4  # of an image file: base64 makes it a body
