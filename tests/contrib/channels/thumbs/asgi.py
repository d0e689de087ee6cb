"""What Channels' documentation shows."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thumbs.settings")
django_application = get_asgi_application()

from channels.routing import ChannelNameRouter, ProtocolTypeRouter  # noqa: E402

from thumbs.consumers import DeleteConsumer, GenerateConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "channel": ChannelNameRouter(
            {
                "thumbnails-generate": GenerateConsumer.as_asgi(),
                "thumbnails-delete": DeleteConsumer.as_asgi(),
            }
        ),
    }
)
