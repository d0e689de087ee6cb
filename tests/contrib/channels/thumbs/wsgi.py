"""The views under a server that knows nothing of event loops."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thumbs.settings")
application = get_wsgi_application()
