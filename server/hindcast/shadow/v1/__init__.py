"""Shadow messages as generated from protos/hindcast/shadow; see the comment at the top of shadow.proto."""
