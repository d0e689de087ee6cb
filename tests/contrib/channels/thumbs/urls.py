"""Views that send, by the means of Channels and by ours."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.urls import path

from outwork.contrib.channels import asend, send


def sync_view(request, how, number):
    message = {"type": "send.on", "how": how, "number": number}
    if how == "ours":
        send("thumbnails-generate", message)
    else:
        async_to_sync(get_channel_layer().send)("thumbnails-generate", message)
    return HttpResponse("sent")


async def async_view(request, how, number):
    message = {"type": "send.on", "how": how, "number": number}
    if how == "ours":
        await asend("thumbnails-delete", message)
    else:
        await get_channel_layer().send("thumbnails-delete", message)
    return HttpResponse("sent")


urlpatterns = [path("sync/<how>/<int:number>", sync_view), path("async/<how>/<int:number>", async_view)]
